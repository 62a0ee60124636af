"""The shared memory in which a worker that runs many calls at once records outcomes, in the order in which they end.

It stands behind the record (see record.py), whose header it shares:

    header   begun    span number << 24 | calls that have begun; of all spans before it, all have
             written  outcomes so far: this store is the commit of the last one
             read     outcomes that the parent has read << 24 | where their bytes end (written by the parent)
    ends     one for each span that is out: the worker begins no call from here on (written by the parent)
    names    span number << 24 | call, one for each outcome
    cells    kind << 22 | where the outcome's bytes end
    bytes    the outcomes, one behind the other

Names, cells and bytes are used again, in a ring, once the parent has read them.
"""

from __future__ import annotations

from collections.abc import Iterator

from procoro import kernel

SPANS = 16_384  # that may be out
OUTCOMES = 4096  # that may be unread
DATA = 1 << 20
ENDS_AT, NAMES_AT = 0, 8 * SPANS
CELLS_AT = NAMES_AT + 8 * OUTCOMES
DATA_AT = CELLS_AT + 8 * OUTCOMES
SIZE = DATA_AT + DATA

BEGUN, WRITTEN, READ = 2, 3, 8  # cells of the record's header; those of different writers on different cache lines
CALL_BITS = 24  # below the span's number; likewise below the number of outcomes read
CALL_MASK = (1 << CALL_BITS) - 1
END_BITS = 22
END_MASK = (1 << END_BITS) - 1


class Ring:
    """One side's view of it. `base`: where it begins in the file `fd`."""

    def __init__(self, fd: int, view: memoryview, base: int, header: memoryview[int]) -> None:
        self._fd = fd
        self.header = header
        self.ends = view[base + ENDS_AT : base + NAMES_AT].cast("Q")
        self.names = view[base + NAMES_AT : base + CELLS_AT].cast("Q")
        self.cells = view[base + CELLS_AT : base + DATA_AT].cast("Q")
        self.data = view[base + DATA_AT : base + SIZE]
        self._count = 0  # outcomes written, or read
        self._position = 0  # where their bytes end

    def close(self) -> None:
        """Let the memory go."""
        for part in (self.ends, self.names, self.cells, self.data):
            part.release()

    # ---- the worker's side

    def begin(self, slot: int, span: int, call: int) -> bool:
        """Begin a call, unless it has been taken back."""
        begun = span << CALL_BITS | call + 1
        if not call and self.ends[slot] < begun:
            return False  # nothing of this span will begin, and it is not to seem as if all before it had
        if kernel.STORES_IN_ORDER:
            self.header[BEGUN] = begun  # first say so, then look: see docs/exactly-once.md
        else:
            kernel.store_last(self._fd, 8 * BEGUN, begun)
        return self.ends[slot] >= begun

    def is_taken_back(self, slot: int, span: int) -> bool:
        """Is no call of this span to begin?"""
        return self.ends[slot] <= span << CALL_BITS

    def write(self, span: int, call: int, kind: int, body: bytes, used: int) -> bool:
        """Record an outcome, of whose bytes the first `used` count. False: no room, the parent has to read first."""
        size, position = len(body), self._position
        start = position if position + size <= DATA else 0
        read = self.header[READ]
        if unread := self._count - (read >> CALL_BITS):
            end = read & CALL_MASK
            if unread == OUTCOMES:
                return False
            if end <= position:  # what is unread stands in one piece
                if start != position and size >= end:
                    return False
            elif start != position or start + size >= end:
                return False
        self.data[start : start + size] = body
        at = self._count % OUTCOMES
        self.names[at] = span << CALL_BITS | call
        self._position = start + used
        self.cells[at] = kind << END_BITS | self._position
        self._count += 1
        if kernel.STORES_IN_ORDER:
            self.header[WRITTEN] = self._count
        else:
            kernel.store_last(self._fd, 8 * WRITTEN, self._count)
        return True

    # ---- the parent's side

    def set_end(self, slot: int, span: int, calls: int) -> None:
        """The worker may begin the first `calls` calls of a span."""
        self.ends[slot] = span << CALL_BITS | calls

    def read(self) -> Iterator[tuple[int, int, int, list[int], int, bytes]]:
        """New outcomes, as (span, first call, kind, cells, start, bytes): a run of values, or one of another kind."""
        while (count := min(self.header[WRITTEN] - self._count, OUTCOMES - self._count % OUTCOMES)) > 0:
            at = self._count % OUTCOMES
            names, cells = self.names[at : at + count].tolist(), self.cells[at : at + count].tolist()
            yield from self._runs(names, cells)
            self._count += count
            self.header[READ] = self._count << CALL_BITS | self._position

    def _runs(self, names: list[int], cells: list[int]) -> Iterator[tuple[int, int, int, list[int], int, bytes]]:
        first = 0
        # As a rule: values alone, in the order in which their calls began. Then runs need not be gone through.
        even = max(cells) <= END_MASK and cells == sorted(cells) and names == sorted(names)
        while first < len(names):
            end = cells[first] & END_MASK
            start = self._position if end > self._position else 0  # else it did not fit before the end
            stop = first + 1
            if even:
                stop = _end_of_run(names, first)
                end = cells[stop - 1]
            elif not cells[first] >> END_BITS:
                while stop < len(names) and cells[stop] > end and names[stop] == names[stop - 1] + 1:
                    if cells[stop] >> END_BITS:
                        break
                    end = cells[stop]
                    stop += 1
            span, call = names[first] >> CALL_BITS, names[first] & CALL_MASK
            self._position = end
            yield span, call, cells[first] >> END_BITS, cells[first:stop], start, bytes(self.data[start:end])
            first = stop


def _end_of_run(names: list[int], first: int) -> int:
    """Where the run of calls one after another ends that begins there. The names rise."""
    ahead = names[first] - first
    low, high = first + 1, len(names)
    if names[-1] - high + 1 == ahead:
        return high
    while low < high:
        middle = (low + high) // 2
        if names[middle] - middle == ahead:
            low = middle + 1
        else:
            high = middle
    return low
