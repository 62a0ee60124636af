"""Where the items of a queue lie: a ring in its shared file, in which nothing is lost or torn when a process dies.

Two counts are the whole truth of a queue: how many items were put, and how many taken; each is one word, written last.
So whatever instruction a process dies at, an item is in the queue or not, is taken or not. Where the next item is to be
written (or read) stands in one of two places, by the count's last bit: that of the next count is written before the
count is. Writers exclude each other, and so do readers, but one writer and one reader do not.

The items are in a ring in the shared file. When it is full, the writer makes one twice as large behind it and goes on
there (when a very large one is empty, a small one); when the reader follows, the memory of the old one is given back.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from procoro import kernel
from procoro.ipc.shared import FIRST_WORD, Shared
from procoro.ipc.waiting import ring_bell

HEAD = struct.Struct("<QQ")  # bytes and kind; of a jump, where to
BYTES, PICKLE, PARTS, PAD, JUMP = range(5)
ALIGNED = 16  # so that there is always room for one more head
FIRST_RING = 1 << 16  # bytes
KEPT = 1 << 27  # bytes of the largest ring whose memory is used again and again
DUG = 1 << 22  # bytes: a larger one gives it back in pieces of this size, as it is read

# The words. Those that writers write, those that readers write, and those that hardly anybody writes lie in cache lines
# (8 words) of their own: else two processors would take them from each other with every item.
BOUND, SHUT, READERS_SLEEP, WRITERS_SLEEP, JOINERS_SLEEP, JOINERS_NEWS = range(FIRST_WORD, FIRST_WORD + 6)
WRITER, END = 8, 15
PUT = 16
TAILS = 24  # two of three words: place in the ring, where the ring begins, its size
READER, DONE = 32, 39
TAKEN = 40
HEADS = 48  # as TAILS
FREED, FREED_IN = 54, 55  # how far the ring's memory is the writers' again; of which ring that is said
CONSUMERS = 56

Packed = tuple[int, bytes | Sequence[bytes | memoryview], int]


class Ring:
    """One ring, as this process sees it."""

    __slots__ = ("at", "file", "memory", "room", "size", "start", "words")

    def __init__(self, start: int, memory: memoryview, room: int = 0) -> None:
        self.start, self.size = start, memory.nbytes
        self.memory, self.words = memory, memory.cast("Q")
        self.file = cast(mmap.mmap, memory.obj)  # a slice of that is bytes at once
        self.at = len(self.file) - self.size  # where the ring begins there
        self.room = room  # for the writer: as far as this, there was room when we last looked


class Rings(Shared):
    """A queue's items, and the two counts. Knows nothing of turns: who calls holds the side's mutex."""

    _WORDS = 512  # a page
    _MORE = FIRST_RING
    _counts: ClassVar[bool] = False  # who has taken what?

    def __init__(self) -> None:
        super().__init__()
        start = 8 * self._WORDS
        for place in (TAILS, HEADS):
            self._words[place + 1], self._words[place + 2] = start, FIRST_RING
        self._words[END] = start + FIRST_RING
        self._words[FREED_IN] = start

    def _prepare(self) -> None:
        # The next item's number, its place and its ring: right for as long as no other process has put (or taken) one.
        self._tail = self._head = -1, 0, Ring(8 * self._WORDS, self._more)
        self._put_once = self._taken_once = 0  # as we last saw the counts of the other side: they only grow

    # ---- looking

    def empty(self) -> bool:
        """Is nothing in it, at this moment?"""
        return bool(self._words[PUT] == self._words[TAKEN])

    def full(self) -> bool:
        """Is there no room, at this moment?"""
        bound = self._words[BOUND]
        return bool(bound and self._words[PUT] - self._words[TAKEN] >= bound)

    # ---- putting

    def _append(self, put: int, packed: Packed) -> None:
        kind, body, size = packed
        words = self._words
        number, place, ring = self._tail
        if number != put:
            tail = TAILS + 3 * (put & 1)
            place = words[tail]
            if words[tail + 1] != ring.start:
                ring = self._ring(words[tail + 1], words[tail + 2])
        at = place % ring.size
        whole = HEAD.size + size + (-size & ALIGNED - 1)
        if at + whole > ring.size or place + whole + HEAD.size > ring.room or ring.size > KEPT:
            ring, place = self._make_room(put, ring, place, whole, size)
            at = place % ring.size
        ring.words[at >> 3] = size << 8 | kind
        at += HEAD.size
        if isinstance(body, bytes):
            ring.memory[at : at + size] = body
        else:
            for piece in body:
                ring.memory[at : at + len(piece)] = piece
                at += len(piece)
        place += whole
        tail = TAILS + 3 * (put + 1 & 1)
        words[tail] = place
        if words[tail + 1] != ring.start:
            words[tail + 1], words[tail + 2] = ring.start, ring.size
        self._store(PUT, put + 1)
        self._tail = put + 1, place, ring
        if words[READERS_SLEEP]:
            words[READERS_SLEEP] = 0
            ring_bell(self._bell)

    def _make_room(self, put: int, ring: Ring, place: int, whole: int, size: int) -> tuple[Ring, int]:
        """Where there may be no room, or the ring ends: the ring and the place of the next item."""
        at = place % ring.size
        on = ring.size - at if at + whole > ring.size else 0  # it is not broken: it goes to the ring's beginning
        needed = place + on + whole + HEAD.size
        if needed > ring.room:
            ring.room = self._look_for_room(ring.start) + ring.size
        drained = ring.size > KEPT and self._words[TAKEN] == put
        if drained or needed > ring.room:
            larger = self._make_ring(FIRST_RING if drained else 2 * ring.size, size)
            ring.memory[at : at + HEAD.size] = HEAD.pack(larger.size << 8 | JUMP, larger.start)
            return larger, 0
        if on:
            ring.memory[at : at + HEAD.size] = HEAD.pack(PAD, 0)
        return ring, place + on

    def _ring(self, start: int, size: int) -> Ring:
        return Ring(start, self._map(start, size))

    def _store(self, place: int, value: int) -> None:
        """Set a word after all that was written before, as other processes see it."""
        if kernel.STORES_IN_ORDER:
            self._words[place] = value
        else:
            kernel.store_last(self._file, 8 * place, value)

    def _look_for_room(self, start: int) -> int:
        """For the writer: how far, in the ring that begins there, memory has been freed."""
        freed: int = self._words[FREED] if self._words[FREED_IN] == start else 0
        return freed

    def _make_ring(self, size: int, item: int) -> Ring:
        start = self._words[END]
        size = max(size, -(-2 * (item + 3 * HEAD.size) // mmap.PAGESIZE) * mmap.PAGESIZE)
        try:
            os.posix_fallocate(self._file, start, size)  # all of it: nobody is to die of touching it
            ring = Ring(start, self._map(start, size), size)
        except OSError:
            kernel.punch_hole(self._file, start, size)
            raise
        self._words[END] = start + size
        return ring

    # ---- taking

    def _take(self) -> tuple[int, Any] | None:
        """For the reader: the next item, as it was packed; None if there is none."""
        words = self._words
        taken = words[TAKEN]
        if taken >= self._put_once:
            self._put_once = words[PUT]
            if taken >= self._put_once:
                return None
        number, place, ring = self._head
        if number != taken:
            head = HEADS + 3 * (taken & 1)
            place = words[head]
            if words[head + 1] != ring.start:
                ring = self._ring(words[head + 1], words[head + 2])
        left = None
        while True:
            at = place % ring.size
            word = ring.words[at >> 3]
            kind, size = word & 255, word >> 8
            if kind <= PARTS:
                break
            if kind == PAD:
                place += ring.size - at
            else:
                left = ring
                place, ring = 0, self._ring(ring.words[(at >> 3) + 1], size)
        at += HEAD.size
        if kind == PARTS:
            data: Any = bytearray(ring.memory[at : at + size])
        else:
            data = ring.file[ring.at + at : ring.at + at + size]
        place += HEAD.size + size + (-size & ALIGNED - 1)
        head = HEADS + 3 * (taken + 1 & 1)
        words[head] = place
        if words[head + 1] != ring.start:
            words[head + 1], words[head + 2] = ring.start, ring.size
        if self._counts:
            self._count_taken()
        self._store(TAKEN, taken + 1)
        self._head = taken + 1, place, ring
        if words[WRITERS_SLEEP]:
            words[WRITERS_SLEEP] = 0
            ring_bell(self._bell)
        if left is not None:
            kernel.punch_hole(self._file, left.start, left.size)
            words[FREED] = 0
            words[FREED_IN] = ring.start
        if ring.size > KEPT:
            place = self._dig(place, ring)
        words[FREED] = place
        return kind, data

    def _dig(self, place: int, ring: Ring) -> int:
        """Give back the memory up to this place, if that is enough to be worth it; as far as it has been."""
        freed: int = self._words[FREED]
        place -= place % mmap.PAGESIZE
        if place - freed < DUG:
            return freed
        first, last = freed % ring.size, place % ring.size
        if first < last:
            kernel.punch_hole(self._file, ring.start + first, last - first)
        else:
            kernel.punch_hole(self._file, ring.start + first, ring.size - first)
            kernel.punch_hole(self._file, ring.start, last)
        return place

    def _count_taken(self) -> None:
        """For those who count who has taken what."""
