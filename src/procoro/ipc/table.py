"""Who does what with an object: one entry for each, which its process's death makes void."""

from __future__ import annotations

from collections.abc import Iterator

from procoro import kernel
from procoro.ipc import shared

ENTRY = 4  # words: pid, start, extra, value
PID, START, EXTRA, VALUE = range(ENTRY)


class Table:
    """Entries in the words of a shared object, from `first` on. For the holder of the object's mutex.

    An entry is there when its value is not 0, which is written last: whatever instruction a process dies at, an entry
    is there or not.
    """

    def __init__(self, words: memoryview, first: int) -> None:
        self._words = words
        self._first = first  # word: how many entries have ever been in use
        self._most = (len(words) - first - 1) // ENTRY
        self._pid = shared.pid
        self._start = shared.started or kernel.started(shared.pid)

    def _place(self, entry: int) -> int:
        return self._first + 1 + ENTRY * entry

    def entries(self) -> Iterator[int]:
        """All that are there, also those of the dead."""
        for entry in range(self._words[self._first]):
            if self._words[self._place(entry) + VALUE]:
                yield entry

    def add(self, value: int, extra: int = 0) -> int:
        """A new entry of this process. Raises RuntimeError if there are too many."""
        words = self._words
        used = words[self._first]
        entry = next((e for e in range(used) if not words[self._place(e) + VALUE]), used)
        if entry == self._most:
            for dead in self.dead():
                self.remove(dead)
                entry = dead
        if entry == self._most:
            raise RuntimeError(f"more than {self._most} use this at a time")
        place = self._place(entry)
        words[place + PID], words[place + START], words[place + EXTRA] = self._pid, self._start, extra
        words[place + VALUE] = value
        if entry == used:
            words[self._first] = used + 1
        return entry

    def remove(self, entry: int) -> None:
        """It is not there any more."""
        self._words[self._place(entry) + VALUE] = 0

    def value(self, entry: int) -> int:
        """What it says."""
        value: int = self._words[self._place(entry) + VALUE]
        return value

    def extra(self, entry: int) -> int:
        """What was given with it."""
        extra: int = self._words[self._place(entry) + EXTRA]
        return extra

    def set(self, entry: int, value: int) -> None:
        """Let it say something else."""
        self._words[self._place(entry) + VALUE] = value

    def pid(self, entry: int) -> int:
        """Whose it is."""
        pid: int = self._words[self._place(entry) + PID]
        return pid

    def is_alive(self, entry: int) -> bool:
        """Does the process live that made it?"""
        pid, start = self.pid(entry), self._words[self._place(entry) + START]
        return (pid, start) == (self._pid, self._start) or kernel.started(pid) == start

    def dead(self) -> list[int]:
        """The entries of the dead."""
        return [entry for entry in self.entries() if not self.is_alive(entry)]

    def mine(self) -> int | None:
        """The entry of this process, if it has one."""
        for entry in self.entries():
            if self.pid(entry) == self._pid and self._words[self._place(entry) + START] == self._start:
                return entry
        return None
