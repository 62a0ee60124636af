"""What all workers of a pool share: functions, and the names of `__main__` that they need.

An anonymous file with pages for each entry, written by the parent, from which every worker reads. So a function
travels once, no message can be lost that carries it, and a worker that starts late finds all that it needs. Whoever
needs an entry holds it; its pages are given back when nobody does.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import pickle
import struct
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from procoro import kernel
from procoro.wire import handles, twin
from procoro.wire.blocks import BIG

HEAD = struct.Struct("<Q?")  # of an entry: bytes that follow; is it a function to be kept where it was read?
PAGE = mmap.PAGESIZE
KEPT = 64  # functions that nobody needs, in case that they come again

Versions = tuple[tuple[str, int], ...]  # of names of `__main__`


class Entry:
    """What stands in the file. `place`: where. `handles`: those in it, which every worker needs to read it."""

    __slots__ = ("__weakref__", "_gone", "handles", "place", "size")

    def __init__(self, place: int, size: int, found: Sequence[handles.Handle], gone: deque[tuple[int, int]]) -> None:
        self._gone = gone
        self.place = place
        self.size = size
        self.handles = found
        for handle in found:
            handle.awaited_by.add(self)

    def __del__(self) -> None:
        self._gone.append((self.place, self.size))


class Contents:
    """The names of `__main__` in their versions of one moment, as an entry that lists them.

    Their entries last as long as this: as long as a worker may be about to read it.
    """

    __slots__ = ("_entry", "carrying", "names", "place")

    def __init__(self, entry: Entry | None, names: dict[str, tuple[int, Entry]]) -> None:
        self._entry = entry
        self.place = 0 if entry is None else entry.place
        self.names = names
        self.carrying = [entry for _, entry in names.values() if entry.handles]


class Library:
    """The parent's side: writes.

    Holds no lock: a signal handler may write while its thread does, and wait for the crank, which writes too. So what
    is changed is changed in one step.
    """

    def __init__(self) -> None:
        self.fd = kernel.shared_file("procoro-library")
        self._files = [self.fd]  # until it is closed: then its number may be given to a file of the user's
        self._closed = False
        self._writing: list[None] = []  # one for each who writes
        self._pages = itertools.count(1)  # those that nobody has had; page 0 is nobody's
        self._gone: deque[tuple[int, int]] = deque()  # places and sizes of entries that nobody holds any more
        self._small: weakref.WeakValueDictionary[tuple[bytes, Versions], Entry] = weakref.WeakValueDictionary()
        self._last: deque[Entry] = deque(maxlen=KEPT)
        self._names: dict[str, tuple[int, Entry]] = {}  # of `__main__`, each with its version
        self._contents = Contents(None, {})
        self._changed = False  # since the contents were written

    def add_function(self, packed: bytes, versions: Versions = (), found: Sequence[handles.Handle] = ()) -> Entry:
        """The entry of this function, written if it is new; `versions`: of the names of `__main__` that it holds.

        A worker keeps what it has unpacked: where `f` has been defined again, `f` stands in another place.
        """
        if len(packed) > BIG or found:
            return self._write(packed, found)
        entry = self._small.get((packed, versions))
        if entry is None:
            entry = self._small[packed, versions] = self._write(packed, found)
        self._last.append(entry)
        return entry

    def add_definitions(self, definitions: list[twin.Known]) -> list[twin.Known]:
        """Write those that are not here in this version, or a later one; which are here in this one then."""
        for one in definitions:
            if self._version(one.name) < one.version:
                entry = self._write(one.data, one.handles)
                if self._version(one.name) < one.version:  # another may have come between
                    self._names[one.name] = one.version, entry
                    self._changed = True
        return [one for one in definitions if self._names[one.name][0] == one.version]

    def _version(self, name: str) -> int:
        return self._names[name][0] if name in self._names else 0

    def contents(self) -> Contents:
        """All names, as they are now. In the crank's thread."""
        if self._changed:
            self._changed = False
            names = dict(self._names)
            listed = [(name, version, entry.place) for name, (version, entry) in names.items()]
            try:
                self._contents = Contents(self._write(pickle.dumps(listed, 5), ()), names)
            except BaseException:
                self._changed = True
                raise
        return self._contents

    def _write(self, data: bytes, found: Sequence[handles.Handle]) -> Entry:
        size = HEAD.size + len(data)
        entry = Entry(self._take_pages(-(-size // PAGE)) * PAGE, size, found, self._gone)
        place, rest = entry.place, memoryview(HEAD.pack(len(data), len(data) <= BIG and not found) + data)
        self._writing.append(None)
        try:
            if self._closed:
                raise OSError(errno.EBADF, "the pool's functions are closed")
            while rest.nbytes:
                written = os.pwrite(self.fd, rest[: 1 << 30], place)
                place += written
                rest = rest[written:]
        finally:
            self._writing.pop()
            if self._closed:
                self.close()
        return entry

    def _take_pages(self, count: int) -> int:
        """The first of so many in a row, which nobody has had."""
        first = last = next(self._pages)
        while last < first + count - 1:
            page = next(self._pages)
            if page != last + 1:  # another has come between
                first = page
            last = page
        return first

    def give_back(self) -> None:
        """Give the memory of entries back that nobody holds any more. In the crank's thread, as `close`."""
        while self._gone and not self._closed:
            place, size = self._gone.popleft()
            kernel.punch_hole(self.fd, place, -(-size // PAGE) * PAGE)

    def close(self) -> None:
        """Give the file back; who is just writing into it does that. What is added later raises OSError."""
        self._closed = True
        if not self._writing:
            with suppress(IndexError):  # it is closed
                os.close(self._files.pop())


class Reader:
    """A worker's side: reads."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._contents = 0
        self._kept: dict[int, Callable[..., Any]] = {}
        self._last: dict[int, Callable[..., Any]] = {}  # of those that are large, or hold descriptors

    def catch_up(self, contents: int) -> None:
        """Define the names of `__main__` that these contents have in a version which is new here."""
        if contents != self._contents:
            listed = pickle.loads(self._read(contents)[0])
            twin.define(
                [(name, version, self._read(place)[0]) for name, version, place in listed if twin.lacks(name, version)]
            )
            self._contents = contents

    def function(self, place: int) -> Callable[..., Any]:
        """The function that stands there. Raises whatever unpickling it raises."""
        function = self._kept.get(place, self._last.get(place))
        if function is None:
            data, keep = self._read(place)
            if not keep:
                self._last.clear()
            function = pickle.loads(data)
            assert callable(function)
            if not keep:
                self._last[place] = function
            else:
                if len(self._kept) == 4 * KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[place] = function
        return function

    def _read(self, place: int) -> tuple[bytes, bool]:
        size, keep = HEAD.unpack(self._read_part(place, HEAD.size))
        return self._read_part(place + HEAD.size, size), keep

    def _read_part(self, start: int, size: int) -> bytes:
        pieces = []
        while size:
            piece = os.pread(self.fd, min(size, 1 << 30), start)
            if not piece:  # a call has put another file in its place
                raise EOFError("the functions that this worker shares with its pool have been closed by a call")
            pieces.append(piece)
            start, size = start + len(piece), size - len(piece)
        return b"".join(pieces)
