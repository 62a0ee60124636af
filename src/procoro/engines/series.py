"""The spans of one worker whose calls run one after another, as the engine holds them."""

from __future__ import annotations

from collections.abc import Callable

from procoro.wire import record


class Series:
    """The spans that this worker holds, in the order in which they were sent."""

    def __init__(self, memory: record.Record) -> None:
        self._memory = memory
        self.out: dict[int, record.Recorded] = {}  # by number
        self._free = list(range(record.SLOTS))

    def add(self, span: int, first: int, count: int) -> int:
        """One more is about to be sent; its slot."""
        slot = self._free.pop()
        self._memory.set_end(slot, span, count)
        self.out[span] = record.Recorded(self._memory, slot, span, first, count)
        return slot

    def remove(self, span: int) -> None:
        """The worker is through with it."""
        self._free.append(self.out.pop(span).slot)

    def lower_ends(self) -> None:
        """Let the worker begin no call but the one that it may be in."""
        taken = self._memory.header[record.TAKEN]
        for span, recorded in self.out.items():
            # A span that is not taken up is not begun. One that is may be in its first unrecorded call.
            recorded.lower_end(recorded.seen + 1 if span == taken else (0 if span > taken else recorded.seen))

    def limits(self, look: Callable[[], None]) -> dict[int, int]:
        """After the barrier: from which call on none of a span will begin. `look`: reads what is recorded."""
        # First what it has taken up, then the cells. If it goes on to the next span in between, the last call of the
        # one before counts as what it may be in; the other way round, one that has just ended would count as not begun.
        taken = self._memory.header[record.TAKEN]
        look()
        limits = {}
        for span, recorded in self.out.items():
            begun = recorded.seen + 1 if span == taken else recorded.seen
            limits[span] = min(max(recorded.end, begun), recorded.count)
        return limits
