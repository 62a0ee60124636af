"""The spans of one worker whose calls run beside each other, as the engine holds them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from procoro.wire import record, ring


class Crowd:
    """A span whose calls run beside each other."""

    __slots__ = ("end", "first", "slot", "written")

    def __init__(self, slot: int, first: int, count: int) -> None:
        self.slot = slot  # where its end stands
        self.first = first  # call
        self.end = self.written = count  # the worker begins no call from here on; and as it stands in the ring


class Crowds:
    """The spans that this worker holds."""

    def __init__(self, memory: record.Record) -> None:
        self._header = memory.header
        self._ring = memory.ring
        self._out: dict[int, Crowd] = {}  # by number
        self._new_slots = itertools.count()  # those that have never been used,
        self._free_slots: list[int] = []  # and those that are free again
        self._told = 0  # of what has begun, as the header has it

    def __bool__(self) -> bool:
        return bool(self._out)

    def add(self, span: int, first: int, count: int) -> int:
        """One more is about to be sent; its slot."""
        slot = self._free_slots.pop() if self._free_slots else next(self._new_slots)
        self._ring.set_end(slot, span, count)
        self._out[span] = Crowd(slot, first, count)
        return slot

    def remove(self, span: int) -> None:
        """The worker is through with it."""
        self._free_slots.append(self._out.pop(span).slot)

    def cut(self, span: int, begun: int) -> None:
        """The worker has begun so many of its calls, and will begin no more."""
        crowd = self._out[span]
        crowd.end = min(crowd.end, begun)

    def outcomes(self) -> Iterator[tuple[int, int, int, list[int], int, bytes]]:
        """New outcomes, as (span, first call, kind, cells, start, bytes)."""
        for span, at, kind, cells, start, data in self._ring.read():
            yield span, self._out[span].first + at, kind, cells, start, data

    def begun(self) -> tuple[int, int] | None:
        """The last span of which calls have begun, and how many; None if that has been told.

        To be asked after `outcomes`: so there is none of a call that has not begun.
        """
        begun = self._header[ring.BEGUN]
        if begun == self._told:
            return None
        self._told = begun
        return divmod(begun, 1 << ring.CALL_BITS)

    def lower_ends(self) -> dict[int, int]:
        """Let the worker begin no call but those that it may have begun: the end of each span from now on."""
        ends = {span: self._may_have_begun(span) for span in self._out}
        for span, end in reversed(ends.items()):  # it begins the first ones first
            crowd = self._out[span]
            crowd.written = min(crowd.written, end)  # an end never rises
            self._ring.set_end(crowd.slot, span, crowd.written)
        return ends

    def limits(self, lowered: dict[int, int]) -> dict[int, int]:
        """After the barrier: from which call on none of a span will begin. It may have begun more than it was to."""
        limits = {span: max(end, self._may_have_begun(span)) for span, end in lowered.items()}
        for span, limit in limits.items():
            self._out[span].end = limit
        return limits

    def _may_have_begun(self, span: int) -> int:
        header, end = self._header, self._out[span].end
        latest, begun = divmod(header[ring.BEGUN], 1 << ring.CALL_BITS)
        if latest == span:
            return min(begun, end)
        if span < latest:
            return end
        is_loading = header[record.TAKEN] == span != header[record.LOADED]
        return min(int(is_loading), end)  # its first call may be what it is in, if that had not been taken back before
