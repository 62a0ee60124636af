"""What all workers of a pool share: functions, and the names of `__main__` that they need.

An anonymous file to which the parent appends and from which every worker reads up to the place that a span
names. So a function travels once, no message can be lost that carries it, and a worker that starts late reads
all that came before.
"""

from __future__ import annotations

import os
import pickle
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any

from procoro import kernel
from procoro.wire import handles, twin
from procoro.wire.blocks import BIG

ENTRY = struct.Struct("<cQ")  # kind, length
FUNCTION, DEFINITIONS = b"F", b"D"


class Library:
    """The parent's side: appends.

    A signal handler may append while its thread does. So every step says the same when it is taken twice: the
    handler writes what its thread had begun to write, to the same place, and then its own.
    """

    def __init__(self) -> None:
        self.fd = kernel.shared_file("procoro-library")
        self._lock = threading.RLock()  # of `fd`: when it is closed, its number may be given to a file of the user's
        self._entries: list[bytes] = []  # in their order; who has written its own empties it
        self._ends: dict[int, int] = {}  # by their number in it: where those that are written end
        self._places: dict[tuple[bytes, tuple[tuple[str, int], ...]], int] = {}  # where each small function stands
        self._large: dict[int, int] = {}  # where each large one stands, and its size
        self._versions: dict[str, int] = {}  # of `__main__`'s names, as written here
        self.handles: list[handles.Handle] = []  # in what is written here: every worker needs them, as long as it lives

    @property
    def length(self) -> int:
        """All of it up to here is written."""
        count = len(self._ends)
        return self._ends[count - 1] if count else 0

    def add_function(self, packed: bytes, versions: tuple[tuple[str, int], ...] = ()) -> int:
        """Where this function stands, written if it is new; `versions`: of the names of `__main__` that it holds.

        A worker keeps what it has unpacked: where `f` has been defined again, `f` stands in another place.
        """
        with self._lock:
            place = self._places.get((packed, versions))
            if place is None:
                place = self._append(FUNCTION, packed)
                if len(packed) > BIG:
                    self._large[place] = len(packed)
                else:
                    self._places[packed, versions] = place
            return place

    def add_handles(self, found: Sequence[handles.Handle]) -> None:
        """Let each worker have these."""
        for handle in found:
            if not any(one is handle for one in self.handles):
                self.handles.append(handle)
                handle.awaited_by.add(self)

    def forget(self, place: int) -> None:
        """Nobody will need the function that stands there any more, if it is a large one: its memory is given back.

        A small one stays, for whoever comes with the same.
        """
        with self._lock:
            size = self._large.pop(place, None)
            if size is not None and self.fd >= 0:
                kernel.punch_hole(self.fd, place + ENTRY.size, size)  # its head stays: readers go from head to head

    def add_definitions(self, definitions: list[twin.Definition]) -> None:
        """Write those that are not here in this version."""
        with self._lock:
            new = [entry for entry in definitions if self._versions.get(entry[0]) != entry[1]]
            if new:
                self._append(DEFINITIONS, pickle.dumps(new, 5))
                self._versions.update((name, version) for name, version, _ in new)

    def _append(self, kind: bytes, data: bytes) -> int:
        entry = ENTRY.pack(kind, len(data)) + data
        self._entries.append(entry)
        while (number := len(self._ends)) < len(self._entries):
            self._write(number)
        number = next(at for at in reversed(range(len(self._entries))) if self._entries[at] is entry)
        self._entries[number] = b""
        return self._ends[number] - len(entry)

    def _write(self, number: int) -> None:
        place = self._ends[number - 1] if number else 0
        rest = memoryview(self._entries[number])
        while rest.nbytes:
            written = os.pwrite(self.fd, rest[: 1 << 30], place)
            place += written
            rest = rest[written:]
        self._ends[number] = place

    def close(self) -> None:
        """Give the file back. What is added later raises OSError."""
        with self._lock:
            fd, self.fd = self.fd, -1
            for handle in self.handles:
                handle.awaited_by.discard(self)
            self.handles.clear()
        os.close(fd)


class Reader:
    """A worker's side: reads."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._position = 0
        self._functions: dict[int, Callable[..., Any]] = {}
        self._large: dict[int, Callable[..., Any]] = {}  # only the last

    def catch_up(self, length: int) -> None:
        """Take in all definitions up to `length`."""
        while self._position < length:
            kind, size = ENTRY.unpack(os.pread(self.fd, ENTRY.size, self._position))
            start = self._position + ENTRY.size
            if kind == DEFINITIONS:
                twin.define(pickle.loads(self._read(start, size)))
            self._position = start + size

    def function(self, place: int) -> Callable[..., Any]:
        """The function that stands there. Raises whatever unpickling it raises."""
        function = self._functions.get(place) or self._large.get(place)
        if function is None:
            _, size = ENTRY.unpack(os.pread(self.fd, ENTRY.size, place))
            self._large.clear()
            function = pickle.loads(self._read(place + ENTRY.size, size))
            assert callable(function)
            (self._large if size > BIG else self._functions)[place] = function
        return function

    def _read(self, start: int, size: int) -> bytes:
        pieces = []
        while size:
            piece = os.pread(self.fd, min(size, 1 << 30), start)
            if not piece:  # a call has put another file in its place
                raise EOFError("the functions that this worker shares with its pool have been closed by a call")
            pieces.append(piece)
            start, size = start + len(piece), size - len(piece)
        return b"".join(pieces)
