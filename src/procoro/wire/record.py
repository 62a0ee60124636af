"""The shared memory in which a worker records each outcome, readable after its death.

One memfd a worker: a header, and two slots, one for each span that the worker may hold. A slot has a cell for
every call of its span, and the outcomes: numbers as the machine holds them, as long as the span's calls have returned
nothing else, then bytes, one behind the other: pickles, or UTF-8 as long as only strings have been returned. (To pickle
one takes longer than all else that a short call costs.)

    header   taken | loaded            the span whose calls the worker runs, the one whose function it has loaded
             beat                      when its event loop last turned, in ns of the monotonic clock; 0: it is idle
             end of slot 0 | of slot 1 the worker begins no call from here on (written by the parent)
             (and cells of the ring)
    slot     cell 0 .. cell 4095       span number << 25 | mixed << 24 | kind << 21 | where the outcome's bytes end;
                                       mixed: here or before stands one that is no plain value
             number 0 .. number 4095   ints or floats: all of one kind, from the first call on
             bytes
    ring     for calls that run beside each other, see ring.py

A cell is written by one aligned 64-bit store (`memoryview.cast("Q")` compiles to one; `struct` does not), after
the bytes: the store is the commit of call k, and lets call k + 1 begin. Span numbers are never used twice in a
pool, so whatever a cell held before cannot pass for an outcome of this span.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from typing import Literal

from procoro import kernel
from procoro.wire import ring

CALLS = 4096  # in a span
HEADER = 4096
CELLS = 8 * CALLS
NUMBERS = 8 * CALLS
DATA = 1 << 20
SLOT = CELLS + NUMBERS + DATA
SLOTS = 2
RING = HEADER + SLOTS * SLOT
SIZE = RING + ring.SIZE

SPAN_BITS = 25  # below the span's number
MIXED = 1 << 24
END_BITS = 21
END_MASK = (1 << END_BITS) - 1
KIND_MASK = 7

# The big ones name a block, see blocks.py; a call that was cut has ended because it was asked to (only in the ring).
# Plain ones stand only in a slot, and before all else: numbers in a place of their own, text with a zero behind each.
VALUE, FAILURE, BIG_VALUE, BIG_FAILURE, CUT, INT, FLOAT, TEXT = range(8)
FORMATS: dict[int, Literal["q", "d"]] = {INT: "q", FLOAT: "d"}  # as `struct` names them


def room(calls: int) -> int:
    """Bytes that the outcomes of so many calls may take in a slot: there is always space to name a block for each."""
    return DATA - 8 * calls


TAKEN, LOADED, BEAT, ENDS = 0, 1, 4, 16  # cells of the header; those of different writers on different cache lines


class Record:
    """One side's view of the memory."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.memory = mmap.mmap(fd, SIZE)
        self._view = memoryview(self.memory)
        self.header = self._view[:HEADER].cast("Q")
        self.ring = ring.Ring(fd, self._view, RING, self.header)
        slots = [self._view[at : at + SLOT] for at in (HEADER + slot * SLOT for slot in range(SLOTS))]
        self.cells = [slot[:CELLS].cast("Q") for slot in slots]
        self.numbers = [slot[CELLS : CELLS + NUMBERS] for slot in slots]
        self.data = [slot[CELLS + NUMBERS :] for slot in slots]

    @classmethod
    def create(cls) -> Record:
        """New memory, all zero."""
        fd = kernel.shared_file("procoro-record", SIZE)
        try:
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Give the memory and the descriptor back."""
        self.ring.close()
        for view in (*self.cells, *self.numbers, *self.data, self.header, self._view):
            view.release()
        self.memory.close()
        os.close(self.fd)

    def set_end(self, slot: int, number: int, calls: int) -> None:
        """Parent: the worker may begin the first `calls` calls of span `number`."""
        self.header[ENDS + slot] = number << SPAN_BITS | calls


class Recorded:
    """What the parent has read of one span so far."""

    __slots__ = ("_position", "count", "end", "first", "number", "record", "seen", "slot")

    def __init__(self, record: Record, slot: int, number: int, first: int, count: int) -> None:
        self.record = record
        self.slot = slot
        self.number = number
        self.first = first  # of its calls, as its stream counts them
        self.count = count
        self.end = count  # the worker begins no call from here on
        self.seen = 0
        self._position = 0

    def lower_end(self, calls: int) -> None:
        """Let the worker begin only the first `calls` calls. An end never rises again: what was taken back is gone."""
        if calls < self.end:
            self.end = calls
            self.record.set_end(self.slot, self.number, calls)

    def new(self) -> memoryview[int]:
        """The cells of the calls that have ended since the last look. The serial worker records them in order."""
        cells, number = self.record.cells[self.slot], self.number
        low, high = self.seen, self.count
        while low < high:
            middle = (low + high) // 2
            if cells[middle] >> SPAN_BITS == number:
                low = middle + 1
            else:
                high = middle
        return memoryview(cells[self.seen : low].tobytes()).cast("Q")  # the slot is used again

    def read(self) -> Iterator[tuple[int, int, Sequence[int], int, bytes]]:
        """New outcomes, as (first, kind, cells, start, bytes): a run of values or numbers, or one of another kind."""
        cells = self.new()
        at = 0
        while at < len(cells):
            kind = cells[at] >> END_BITS & KIND_MASK
            stop = at + 1
            if cells[-1] >> END_BITS & (MIXED >> END_BITS | KIND_MASK) == kind:
                stop = len(cells)  # the plain stand before all else, and behind what is mixed, all is
            elif kind in (VALUE, INT, FLOAT, TEXT):
                while stop < len(cells) and cells[stop] >> END_BITS & KIND_MASK == kind:
                    stop += 1
            if kind in FORMATS:
                start, end = 8 * self.seen, 8 * (self.seen + stop - at)
                data = bytes(self.record.numbers[self.slot][start:end])
            else:
                start, end = self._position, cells[stop - 1] & END_MASK
                data = bytes(self.record.data[self.slot][start:end])
                self._position = end
            yield self.seen, kind, cells[at:stop], start, data
            self.seen += stop - at
            at = stop
