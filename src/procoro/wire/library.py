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
from collections.abc import Callable
from typing import Any

from procoro import kernel
from procoro.wire import twin

ENTRY = struct.Struct("<cQ")  # kind, length
FUNCTION, DEFINITIONS = b"F", b"D"


class Library:
    """The parent's side: appends."""

    def __init__(self) -> None:
        self.fd = kernel.shared_file("procoro-library")
        self.length = 0
        self._lock = threading.Lock()  # of `fd`: when it is closed, its number may be given to a file of the user's
        self._places: dict[tuple[bytes, tuple[tuple[str, int], ...]], int] = {}  # where each function stands
        self._versions: dict[str, int] = {}  # of `__main__`'s names, as written here

    def add_function(self, packed: bytes, versions: tuple[tuple[str, int], ...] = ()) -> int:
        """Where this function stands, written if it is new; `versions`: of the names of `__main__` that it holds.

        A worker keeps what it has unpacked: where `f` has been defined again, `f` stands in another place.
        """
        place = self._places.get((packed, versions))
        if place is None:
            place = self._places[packed, versions] = self._append(FUNCTION, packed)
        return place

    def add_definitions(self, definitions: list[twin.Definition]) -> None:
        """Write those that are not here in this version."""
        new = [entry for entry in definitions if self._versions.get(entry[0]) != entry[1]]
        if new:
            self._append(DEFINITIONS, pickle.dumps(new, 5))
            self._versions.update((name, version) for name, version, _ in new)

    def _append(self, kind: bytes, data: bytes) -> int:
        place = self.length
        entry = memoryview(ENTRY.pack(kind, len(data)) + data)
        with self._lock:
            while entry.nbytes:
                written = os.pwrite(self.fd, entry[: 1 << 30], self.length)
                self.length += written
                entry = entry[written:]
        return place

    def close(self) -> None:
        """Give the file back. What is added later raises OSError."""
        with self._lock:
            fd, self.fd = self.fd, -1
        os.close(fd)


class Reader:
    """A worker's side: reads."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._position = 0
        self._functions: dict[int, Callable[..., Any]] = {}

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
        function = self._functions.get(place)
        if function is None:
            _, size = ENTRY.unpack(os.pread(self.fd, ENTRY.size, place))
            function = pickle.loads(self._read(place + ENTRY.size, size))
            assert callable(function)
            self._functions[place] = function
        return function

    def _read(self, start: int, size: int) -> bytes:
        pieces = []
        while size:
            piece = os.pread(self.fd, min(size, 1 << 30), start)
            pieces.append(piece)
            start, size = start + len(piece), size - len(piece)
        return b"".join(pieces)
