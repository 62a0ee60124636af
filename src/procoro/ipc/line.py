"""Those of one process who wait for the same thing, in the order in which they came: the first alone looks after it.

Else each change would wake all of them, to find it taken by another: a thousand tasks at one lock would be woken half a
million times until each has had it once, and would hold a thousand epolls.
"""

from __future__ import annotations

from collections import deque
from time import monotonic

from procoro.ipc.waiting import LOOK, Nap, Waiting


class Line(deque["Place"]):
    """The line. Safe for threads: each step is one of C's."""

    def call(self) -> None:
        """Let who stands first look again."""
        try:
            first = self[0]
        except IndexError:
            return
        first.nap.end()


class Place:
    """A place in a line, from when this is entered."""

    def __init__(self, line: Line, deadline: float | None) -> None:
        self._line = line
        self._deadline = deadline
        self.nap = Nap()
        self.calls_next = True  # as it leaves

    def __enter__(self) -> Place:
        self._line.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._line.remove(self)
        if self.calls_next:
            self._line.call()

    @property
    def late(self) -> bool:
        """Is it past the deadline?"""
        return self._deadline is not None and monotonic() >= self._deadline

    def coming_first(self) -> Waiting[bool]:
        """Until this is the first. False: the deadline came first.

        Who has stood for a while goes ahead all the same: the first may be in a loop that does not run any more.
        """
        patience = monotonic() + LOOK
        while self._line[0] is not self and monotonic() < patience:
            if self.late:
                return False
            yield self
        return True

    def _seconds(self) -> float:
        return LOOK if self._deadline is None else max(0.0, min(LOOK, self._deadline - monotonic()))

    def sleep(self) -> None:
        """As in `Sleeps`: until it is called."""
        self.nap.last(self._seconds())

    async def asleep(self) -> None:
        """As in `Sleeps`."""
        await self.nap.alast(self._seconds())
