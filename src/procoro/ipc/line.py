"""Tasks of one event loop, or greenlets of one thread, that wait for the same thing stand in a line: its first alone
looks after it.

Else each change would wake all of them, to find it taken by another: a thousand tasks at one lock would be woken half a
million times until each has had it once, and would hold a thousand epolls. A thread stands in no line: whoever it
stood behind might be in a loop that is busy, or has stopped.
"""

from __future__ import annotations

import weakref
from collections import deque
from time import monotonic
from typing import Any

from procoro.ipc.waiting import LOOK, Nap, Waiting, hub_to_wait_in


class Lines(dict[Any, "deque[weakref.ref[Place]]"]):
    """The lines of this process at one thing, by loop or hub; only those that are not empty."""

    def call(self) -> None:
        """Let all who stand first look again. In any thread."""
        for line in self.copy().values():
            _call_first(line)

    def leave(self, key: Any, ref: weakref.ref[Place], calls_next: bool) -> None:
        """One goes, or is dead."""
        line = self.get(key)
        if line is not None and ref in line:
            line.remove(ref)
            if not line:
                del self[key]
            elif calls_next:
                _call_first(line)


def _call_first(line: deque[weakref.ref[Place]]) -> None:
    try:
        first = line[0]()
    except IndexError:
        return
    if first is not None:
        first.nap.end()


class Place:
    """A place in a line, from `coming_first` on."""

    def __init__(self, lines: Lines, deadline: float | None) -> None:
        self._lines = lines
        self._deadline = deadline
        self._key: Any = None
        self._ref: weakref.ref[Place] | None = None
        self.nap = Nap()
        self.calls_next = True  # as it leaves

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ref is not None:
            self._lines.leave(self._key, self._ref, self.calls_next)

    @property
    def is_taken(self) -> bool:
        """Is it in a line?"""
        return self._ref is not None

    @property
    def late(self) -> bool:
        """Is it past the deadline?"""
        return self._deadline is not None and monotonic() >= self._deadline

    def coming_first(self) -> Waiting[None]:
        """Until this is the first, or late: then it may look once more."""
        yield self
        while self._ref is not None and self._lines[self._key][0] is not self._ref and not self.late:
            yield self

    def _take(self, key: Any) -> bool:
        """Stand in this line, if it stands in none so far. Is it new there, and the first?"""
        if self._ref is not None:
            return False
        lines = self._lines
        # If an exception of a signal handler hits this frame or that of `__exit__`, nobody else would let it go.
        self._key, self._ref = key, weakref.ref(self, lambda ref: lines.leave(key, ref, True))
        line = lines.setdefault(key, deque())
        line.append(self._ref)
        return len(line) == 1

    def _seconds(self) -> float:
        return LOOK if self._deadline is None else max(0.0, min(LOOK, self._deadline - monotonic()))

    def sleep(self) -> None:
        """As in `Sleeps`: until it is called. A thread does not."""
        hub = hub_to_wait_in()
        if hub is not None and not self._take(hub):
            self.nap.sleep(self._seconds())

    async def asleep(self) -> None:
        """As in `Sleeps`."""
        import asyncio

        if not self._take(asyncio.get_running_loop()):
            await self.nap.asleep(self._seconds())
