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


def large_buffers(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    """Small buffers stay in the pickle (a true answer), large ones are collected."""

    def collect(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < BIG:
            return True
        buffers.append(buffer)
        return False

    return collect


def write_bytes(pieces: Sequence[bytes | memoryview]) -> int:
    """A new block of these bytes; its descriptor. Raises OSError (ENOSPC, ENOMEM, EMFILE) if there is no room."""
    fd = kernel.shared_file("procoro-block")
    try:
        for piece in pieces:
            view = memoryview(piece)
            while view.nbytes:
                view = view[os.write(fd, view[: 1 << 30]) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_parts(parts: Sequence[Parts]) -> int:
    """A new block of several pickles with their buffers, found again by the directory at its head."""
    at = 0
    directory = []
    pieces: list[bytes | memoryview] = []
    for part in parts:
        places = []
        for piece in (part.body, *part.buffers):
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
    return write_bytes([head, *pieces])


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
    (length,) = LENGTH.unpack_from(block)
    directory = pickle.loads(block[8 : 8 + length])
    start = 8 + length + -(8 + length) % ALIGNED

    def loader(places: list[tuple[int, int]]) -> Callable[[], Any]:
        body, *buffers = (block[start + a : start + b] for a, b in places)
        return lambda: pickle.loads(body, buffers=buffers)

    return [loader(places) for places in directory]


def body(block: memoryview) -> memoryview:
    """The first pickle of a block, as bytes."""
    (length,) = LENGTH.unpack_from(block)
    directory = pickle.loads(block[8 : 8 + length])
    start = 8 + length + -(8 + length) % ALIGNED
    first, last = directory[0][0]
    return block[start + first : start + last]
