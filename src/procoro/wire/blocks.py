"""Big payloads: one anonymous file each, written by the sender, mapped privately by the receiver.

The receiver's objects (numpy arrays, say) look straight into the mapping, which lives as long as they do; it is
private, so they can be written to. The file is written before it is sent and never truncated: no SIGBUS.
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

from procoro import kernel

BIG = 64 * 1024  # bytes, from which on a payload travels in a block
ALIGNED = 64
READ_AND_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
UNTRACKED = sys.version_info >= (3, 13)  # before that, a mapping keeps a descriptor as long as it lives,
COPIED = 4 * 1024 * 1024  # so that up to this size, of which there may be thousands, a copy is better
WRITTEN = 1 << 20  # bytes, from which on an input is written into its block at once, and not copied twice
MOST_HELD = 16  # of those, at a time: each holds a descriptor
MOST_SPARE = 64 << 20  # bytes of all blocks that are kept

LENGTH = struct.Struct("<Q")


class Parts:
    """A pickle whose large buffers (pickle protocol 5) stand outside of it."""

    __slots__ = ("body", "buffers")

    def __init__(self, body: bytes, buffers: Sequence[bytes | memoryview]) -> None:
        self.body = body
        self.buffers = buffers

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return len(self.body) + sum(len(buffer) for buffer in self.buffers)

    def pieces(self) -> list[bytes | memoryview]:
        """The pickle, and its buffers."""
        return [self.body, *self.buffers]


class Written(Parts):
    """Parts that stand in a block, from which they are sent as often as need be.

    `looks`: how often they were sent to somebody who may still look into the block. When they are dropped and there is
    nobody, the block is a spare.
    """

    __slots__ = ("_nbytes", "_spares", "fd", "looks")

    def __init__(self, parts: Parts, spares: Spares) -> None:
        """Raises OSError if there is no room, or many are held."""
        self.fd = -1
        if len(_held) >= MOST_HELD:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        super().__init__(b"", ())
        self._nbytes = parts.nbytes
        self._spares = spares
        self.looks = 0
        self.fd = write_parts([parts], spares.take())
        _held.add(self.fd)

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return self._nbytes

    def pieces(self) -> list[bytes | memoryview]:
        """The pickle, and its buffers."""
        return [*_pieces(map_bytes(os.dup(self.fd)))[0]]

    def __del__(self) -> None:
        if self.fd >= 0:
            _held.discard(self.fd)
            if self.looks:
                os.close(self.fd)
            else:
                self._spares.put(self.fd)


_held: set[int] = set()  # descriptors of what is written and not yet dropped


class Spares:
    """Blocks that nobody looks into any more, to be written again: that takes a fifth of the time of a new one, for
    which the kernel has to find and clear each page. For all threads; without a lock, since they come from finalizers.
    """

    def __init__(self) -> None:
        self._fds: list[int] = []
        self._closed = False

    def take(self) -> int | None:
        """One of them, if there is one."""
        try:
            return self._fds.pop()
        except IndexError:
            return None

    def put(self, fd: int) -> None:
        """Keep this one, or close it."""
        if self._closed or sum(os.fstat(one).st_size for one in [fd, *self._fds]) > MOST_SPARE:
            os.close(fd)
        else:
            self._fds.append(fd)

    def drop(self) -> None:
        """Give their memory back."""
        while (fd := self.take()) is not None:
            os.close(fd)

    def close(self) -> None:
        """Drop them, and all that come later."""
        self._closed = True
        self.drop()


def large_buffers(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    """Small buffers stay in the pickle (a true answer), large ones are collected."""

    def collect(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < BIG:
            return True
        buffers.append(buffer)
        return False

    return collect


def refuse_large(buffer: pickle.PickleBuffer) -> bool:
    """Likewise, but large ones are not taken: raises BufferError."""
    if buffer.raw().nbytes < BIG:
        return True
    raise BufferError


def write_bytes(pieces: Sequence[bytes | memoryview], spare: int | None = None) -> int:
    """A block of these bytes, a new one if there is no `spare`; its descriptor.

    Raises OSError (ENOSPC, ENOMEM, EMFILE) if there is no room.
    """
    fd = kernel.shared_file("procoro-block") if spare is None else spare
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        for piece in pieces:
            view = memoryview(piece)
            while view.nbytes:
                view = view[os.write(fd, view[: 1 << 30]) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_parts(parts: Sequence[Parts], spare: int | None = None) -> int:
    """A block of several pickles with their buffers, found again by the directory at its head."""
    at = 0
    directory = []
    pieces: list[bytes | memoryview] = []
    for part in parts:
        places = []
        for piece in part.pieces():
            pieces.append(piece)
            places.append((at, at + len(piece)))
            padding = -len(piece) % ALIGNED
            if padding:
                pieces.append(bytes(padding))
            at += len(piece) + padding
        directory.append(places)
    head = pickle.dumps(directory, 5)
    head = LENGTH.pack(len(head)) + head
    head += bytes(-len(head) % ALIGNED)
    return write_bytes([head, *pieces], spare)


def map_bytes(fd: int) -> memoryview:
    """Look into a block, and close its descriptor. The memory goes with the last look into it."""
    try:
        size = os.fstat(fd).st_size
        if UNTRACKED:
            return memoryview(mmap.mmap(fd, 0, mmap.MAP_PRIVATE, READ_AND_WRITE, trackfd=False))  # type: ignore[call-arg, unused-ignore]
        if size > COPIED:
            return memoryview(mmap.mmap(fd, 0, mmap.MAP_PRIVATE, READ_AND_WRITE))
        view = memoryview(bytearray(size))
        at = 0
        while at < size:
            at += os.preadv(fd, [view[at:]], at)
        return view
    finally:
        os.close(fd)


def map_received(fds: Sequence[int]) -> memoryview:
    """Map the block that came with a message. Raises OSError: the kernel drops it where no descriptor is free."""
    if not fds:
        raise OSError(errno.EMFILE, f"{os.strerror(errno.EMFILE)}: a large value could not be received")
    return map_bytes(fds[0])


def read_parts(block: memoryview) -> list[Callable[[], Any]]:
    """For each pickle of a block, what unpickles it."""

    def loader(body: memoryview, *buffers: memoryview) -> Callable[[], Any]:
        return lambda: pickle.loads(body, buffers=buffers)

    return [loader(*pieces) for pieces in _pieces(block)]


def body(block: memoryview) -> memoryview:
    """The first pickle of a block, as bytes."""
    return _pieces(block)[0][0]


def _pieces(block: memoryview) -> list[list[memoryview]]:
    """For each pickle of a block, itself and its buffers."""
    (length,) = LENGTH.unpack_from(block)
    directory = pickle.loads(block[8 : 8 + length])
    start = 8 + length + -(8 + length) % ALIGNED
    return [[block[start + first : start + last] for first, last in places] for places in directory]
