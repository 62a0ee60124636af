"""Big payloads: one anonymous file each, written by the sender, mapped privately by the receiver.

The receiver's objects (numpy arrays, say) look straight into the mapping, which lives as long as they do; it is
private, so they can be written to. The file is written before it is sent, and is written again or made shorter only
when nobody looks into it any more: no SIGBUS.
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import resource
import struct
import sys
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from procoro import kernel

BIG = 64 * 1024  # bytes, from which on a payload travels in a block
ALIGNED = 64
READ_AND_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
UNTRACKED = sys.version_info >= (3, 13)  # before that, a mapping keeps a descriptor as long as it lives
COPIED = 4 * 1024 * 1024  # bytes, up to which a copy is better then: there may be thousands
WRITTEN = 1 << 20  # bytes, from which on an input is written into its block at once, and not copied twice
MOST_HELD = 8  # of those, at a time: each holds a descriptor,
LEFT_FREE = 64  # and none of the last ones
MOST_SPARES, MOST_SPARE_BYTES = 4, 64 << 20

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
    """Parts that stand in a block already, from which they are sent as often as need be.

    `looks`: how often they were sent to somebody who may still look into the block. If that is 0 when they are dropped,
    the block becomes a spare.
    """

    __slots__ = ("__weakref__", "_nbytes", "_spares", "fd", "looks")

    def __init__(self, parts: Parts, spares: Spares) -> None:
        """Raises OSError if there is no room, if enough are held, or if few more descriptors could be opened."""
        self.fd = -1
        if len(_held) >= MOST_HELD:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        super().__init__(b"", ())
        self._nbytes = parts.nbytes
        self._spares = spares
        self.looks = 0
        fd = write_parts([parts], spares)
        if fd >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - LEFT_FREE:  # each is given the lowest free number
            os.close(fd)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.fd = fd
        _held.add(self)

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return self._nbytes

    def pieces(self) -> list[bytes | memoryview]:
        """The pickle, and its buffers."""
        return [*_pieces(map_bytes(os.dup(self.fd)))[0]]

    def __del__(self) -> None:
        if self.fd < 0:
            return
        size = 0 if self.looks else os.fstat(self.fd).st_size
        fd, self.fd = self.fd, -1  # first: a child that is forked meanwhile would close it, or another's, once more
        if self.looks:
            os.close(fd)
        else:
            self._spares.put(fd, size)


_held: weakref.WeakSet[Written] = weakref.WeakSet()


class Spares:
    """Blocks that nobody looks into any more, to be written again: that takes a fifth of the time of a new one, for
    which the kernel has to find and clear each page.

    They come from finalizers, in any thread: so there is no lock, only steps that are whole by themselves. `tell` is
    called when there is one more.
    """

    def __init__(self, tell: Callable[[], object]) -> None:
        self.taken = 0  # ever
        self._tell = tell
        self._blocks: list[tuple[int, int]] = []  # descriptors and bytes
        self._closed = False
        _all.add(self)

    def take(self) -> int | None:
        """One of them, if there is one."""
        try:
            fd, _ = self._blocks.pop()
        except IndexError:
            return None
        self.taken += 1
        return fd

    def put(self, fd: int, size: int) -> None:
        """Keep this one, or close it."""
        others = list(self._blocks)
        if len(others) >= MOST_SPARES or size + sum(nbytes for _, nbytes in others) > MOST_SPARE_BYTES:
            os.close(fd)
            return
        self._blocks.append((fd, size))
        if self._closed:
            self.drop()
        else:
            self._tell()

    def drop(self) -> None:
        """Give their memory back."""
        while (fd := self.take()) is not None:
            os.close(fd)

    def close(self) -> None:
        """Drop them, and all that come later."""
        self._closed = True
        self.drop()


_all: weakref.WeakSet[Spares] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A child that the user forked has no use for its parent's blocks, and would keep their memory."""
    for written in list(_held):
        fd, written.fd = written.fd, -1
        if fd >= 0:
            os.close(fd)
    _held.clear()
    for spares in _all:
        spares.close()


os.register_at_fork(after_in_child=_forget_in_child)


def large_buffers(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    """Small buffers stay in the pickle (a true answer), large ones are collected."""
    return partial(_collect, buffers)


def _collect(buffers: list[pickle.PickleBuffer], buffer: pickle.PickleBuffer) -> bool:
    if buffer.raw().nbytes < BIG:
        return True
    buffers.append(buffer)
    return False


def write_bytes(pieces: Sequence[bytes | memoryview], spares: Spares | None = None) -> int:
    """A block of these bytes, one of the spares if there is one; its descriptor.

    Raises OSError (ENOSPC, ENOMEM, EMFILE) if there is no room.
    """
    spare = None if spares is None else spares.take()
    fd = kernel.shared_file("procoro-block") if spare is None else spare
    try:
        at = 0
        for piece in pieces:
            view = memoryview(piece)
            while view.nbytes:
                written = os.pwrite(fd, view[: 1 << 30], at)
                at += written
                view = view[written:]
        if spare is not None:
            os.ftruncate(fd, at)  # it would be mapped, or copied, as a whole
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_parts(parts: Sequence[Parts], spares: Spares | None = None) -> int:
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
    return write_bytes([head, *pieces], spares)


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
