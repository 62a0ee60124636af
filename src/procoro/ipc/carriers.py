"""Memory in which large messages travel beside a socket, used again and again.

A carrier is an anonymous file that its sender fills as a ring. The message tells where its bytes lie, and brings the
file's key and its descriptor, since any process may get it; who receives it copies them out and sets the word before
them to 0, which gives the place back. A fresh file for each message would cost a page fault for every 4 KiB, on both
sides: three times the copy, measured.
"""

from __future__ import annotations

import mmap
import os
import threading
from array import array
from collections import deque
from collections.abc import Sequence

from procoro import kernel
from procoro.wire import channel

HEAD = 64  # bytes: a word, and room so that messages begin aligned
LEAST = 1 << 21  # bytes of a carrier: small enough to stay in the processor's cache
DEEP, DEEP_UP_TO = 4, 1 << 24  # messages that it holds, if they are large; of more bytes than that, one
FREE = bytes(8)
KNOWN = 4  # carriers that a receiver keeps mapped


class Carrier:
    """One such file, as its sender has it. Its descriptor is closed when nobody refers to it."""

    fd = -1

    def __init__(self, message: int) -> None:
        self.key = int.from_bytes(os.urandom(8), "little")
        deep = DEEP if message <= DEEP_UP_TO else 1
        self.size = max(LEAST, -(-deep * (message + 2 * HEAD) // mmap.PAGESIZE) * mmap.PAGESIZE)
        self.fd = kernel.shared_file("procoro-carrier", 0)
        self.ancillary = [(channel.SOCKET, channel.RIGHTS, array("i", [self.fd]))]  # brings it
        os.posix_fallocate(self.fd, 0, self.size)
        self._memory = mmap.mmap(self.fd, self.size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._words = memoryview(self._memory).cast("Q")
        self._under_way: deque[int] = deque()  # where those begin that may not have been read, in their order
        self._end = 0  # of the last

    def is_empty(self) -> bool:
        """Has all been read?"""
        while self._under_way and not self._words[self._under_way[0] >> 3]:
            self._under_way.popleft()
        return not self._under_way

    def load(self, pieces: Sequence[bytes | memoryview], size: int) -> int | None:
        """Where these bytes now are; None if there is no room."""
        words = self._words
        whole = HEAD + size + (-size & HEAD - 1)
        first = None if self.is_empty() else self._under_way[0]
        start = self._end if first is not None else 0
        if first is None or start > first:
            if start + whole > self.size:
                start = 0
                if first is not None and whole >= first:
                    return None
        elif start + whole >= first:
            return None
        at = start + HEAD
        for piece in pieces:
            end = at + len(piece)
            self._memory[at:end] = piece  # type: ignore[assignment, unused-ignore]
            at = end
        words[start >> 3] = 1
        self._under_way.append(start)
        self._end = start + whole
        return start

    def __del__(self) -> None:
        if self.fd >= 0 and os is not None:  # as in `shared.Descriptors`
            os.close(self.fd)


class Outgoing:
    """The carrier of one sender."""

    def __init__(self) -> None:
        self._carrier: Carrier | None = None
        self._lock = threading.RLock()
        self._loading = False  # a signal handler may send while its thread does

    def load(self, pieces: Sequence[bytes | memoryview], size: int) -> tuple[Carrier, int] | None:
        """The carrier, and where in it these bytes are; None: too much is under way.

        Raises OSError if no memory or descriptor is left.
        """
        with self._lock:
            if self._loading:
                carrier = Carrier(size)
                return carrier, carrier.load(pieces, size) or 0
            self._loading = True
            try:
                kept = self._carrier
                if kept is None or kept.size < size + HEAD or self._is_too_large(kept, size):
                    self._carrier = kept = Carrier(size)
                carrier = kept
                start = carrier.load(pieces, size)
            finally:
                self._loading = False
        return None if start is None else (carrier, start)

    def _is_too_large(self, carrier: Carrier, size: int) -> bool:
        """A huge one is not kept for the small."""
        return carrier.size > DEEP * DEEP_UP_TO and size <= DEEP_UP_TO and carrier.is_empty()

    def close(self) -> None:
        """The next message begins another one. The memory goes when who is still to read it has."""
        self._carrier = None


class Incoming:
    """The carriers that one receiver has seen, the latest last."""

    def __init__(self) -> None:
        self._known: dict[int, mmap.mmap] = {}
        self._lock = threading.Lock()

    def unload(self, key: int, fd: int, start: int, size: int, writable: bool) -> bytes | bytearray:
        """A copy of the message there, whose place is free then. Closes the descriptor."""
        memory = self._known.get(key)
        try:
            if memory is None:
                memory = self._know(key, fd)
        finally:
            os.close(fd)
        at = start + HEAD
        copy = bytearray(memoryview(memory)[at : at + size]) if writable else memory[at : at + size]
        memory[start : start + 8] = FREE
        return copy

    def _know(self, key: int, fd: int) -> mmap.mmap:
        memory = mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        with self._lock:
            self._known[key] = memory
            if len(self._known) > KNOWN:
                del self._known[next(iter(self._known))]  # not closed: another thread may copy from it
        return memory

    def close(self) -> None:
        """Nothing more is received."""
        self._known.clear()
