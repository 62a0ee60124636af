"""`multiprocessing`'s queues, in which nothing is lost, torn or stuck when a process dies, and which can be awaited.

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
import pickle
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from queue import Empty, Full
from time import monotonic
from typing import Any, ClassVar, Generic, TypeVar, cast

from procoro import kernel
from procoro.errors import QueueAbandoned, QueueShutDown
from procoro.ipc import items
from procoro.ipc.line import Lines, Place
from procoro.ipc.mutex import Mutex
from procoro.ipc.shared import FIRST_WORD, Shared
from procoro.ipc.waiting import LOOK, STOPPED, Sleeper, Waiting, deadline_of, ring_bell, sleep_until, wait

T = TypeVar("T")
HEAD = struct.Struct("<QQ")  # bytes and kind; of a jump, where to
BYTES, PICKLE, PARTS, PAD, JUMP = range(5)
ALIGNED = 16  # so that there is always room for one more head
FIRST_RING = 1 << 16  # bytes
KEPT = 1 << 27  # bytes of the largest ring whose memory is used again and again: a larger one gives it back
DUG = 1 << 22  # in pieces of so many bytes as it is read,
SMALL = 1 << 20  # and of any but a small one while a reader waits in vain
LOOKS = 40  # at the counts, before one sleeps: a wake-up costs 50 µs

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


class SimpleQueue(Shared, Generic[T]):
    """A queue without bounds. An item is in it when `put` returns, also if this process ends then.

    `get` from a queue that is empty, and that nobody else holds any more, raises EOFError.

    >>> from procoro import SimpleQueue
    >>> queue = SimpleQueue()
    >>> queue.put("x")
    >>> queue.get()
    'x'
    """

    WORDS = 512  # a page
    _counts: ClassVar[bool] = False  # who has taken what?
    MORE = FIRST_RING

    def __init__(self) -> None:
        super().__init__()
        start = 8 * self.WORDS
        for place in (TAILS, HEADS):
            self._words[place + 1], self._words[place + 2] = start, FIRST_RING
        self._words[END] = start + FIRST_RING
        self._words[FREED_IN] = start

    def _prepare(self) -> None:
        self._closed = False
        self._writer = Mutex(self, None, WRITER)
        self._reader = Mutex(self, 1, READER)
        self._putters, self._getters = Lines(), Lines()
        # The next item's number, its place and its ring: right for as long as no other process has put (or taken) one.
        self._tail = self._head = -1, 0, Ring(8 * self.WORDS, self._more)
        self._put_once = self._taken_once = 0  # as we last saw the counts of the other side: they only grow

    # ---- putting

    def put(self, obj: T) -> None:
        """Put an item in.

        Raises:
            procoro.errors.NotPicklable: it cannot travel; the message gives its path.
            ValueError: the queue is closed.
        """
        packed = self._pack(obj)
        if not (self._writer.acquire_at_once() and self._append_at_once(packed)):
            sleep_until(self._putting(packed, None))

    async def aput(self, obj: T) -> None:
        """As `put`, to be awaited."""
        packed = self._pack(obj)
        if not (self._writer.acquire_at_once() and self._append_at_once(packed)):
            await wait(self._putting(packed, None))

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self!r} is closed")

    def _pack(self, obj: Any) -> Packed:
        self._check_open()
        if type(obj) is bytes:
            return BYTES, obj, len(obj)
        plain = items.plain(obj)
        if plain is not None:
            return PICKLE, plain, len(plain)
        body, views = items.dump(obj, "item")
        if not views:
            return PICKLE, body, len(body)
        pieces = items.join(body, views)
        return PARTS, pieces, sum(map(len, pieces))

    def _append_at_once(self, packed: Packed) -> bool:
        """For the writer, whose turn ends with it. False: there is no room."""
        words = self._words
        try:
            if words[SHUT]:
                raise QueueShutDown(f"{self!r} was shut down")
            put = words[PUT]
            bound = words[BOUND]
            if bound and put - self._taken_once >= bound:
                self._taken_once = words[TAKEN]
                if put - self._taken_once >= bound:
                    return False
            self._append(put, packed)
            return True
        finally:
            self._writer.release()

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
            os.pwrite(self._file, value.to_bytes(8, sys.byteorder), 8 * place)

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

    def _putting(self, packed: Packed, deadline: float | None) -> Waiting[None]:
        # Mostly it was only not our turn: a sleeper costs as much as ten items.
        if (yield from self._turn(self._writer, deadline)) and self._append_at_once(packed):
            return
        for _ in range(LOOKS):
            if not self.full():
                break
        with Place(self._putters, deadline) as place, Sleeper(self._bell, deadline) as sleeper:
            yield from place.coming_first()
            while True:
                self._check_open()
                if not (yield from self._turn(self._writer, deadline)):
                    raise Full
                if self._append_at_once(packed):
                    return
                if sleeper.late:
                    raise Full
                self._words[WRITERS_SLEEP] = 1
                kernel.barrier()  # a reader now sees this, or we see what it has taken
                if self.full() and not self._words[SHUT]:
                    yield sleeper

    def _turn(self, mutex: Mutex, deadline: float | None) -> Waiting[bool]:
        if mutex.acquire_at_once():
            return True
        return (yield from mutex.acquiring(deadline))

    # ---- getting

    def get(self) -> T:
        """Take the next item out, waiting for it.

        Raises:
            procoro.errors.QueueAbandoned: the queue is empty, and all who held it besides this process are gone. (An
                EOFError.)
            ValueError: the queue is closed.
        """
        return self._get(None)

    async def aget(self) -> T:
        """As `get`, to be awaited."""
        return await self._aget(None)

    def _get(self, deadline: float | None) -> T:
        packed = self._take_at_once()
        return self._unpack(packed if packed is not None else sleep_until(self._getting(deadline)))

    async def _aget(self, deadline: float | None) -> T:
        packed = self._take_at_once()
        return self._unpack(packed if packed is not None else await wait(self._getting(deadline)))

    def _take_at_once(self) -> tuple[int, Any] | None:
        if self._closed:
            raise ValueError(f"{self!r} is closed")
        if not self._reader.acquire_at_once():
            return None
        try:
            return self._take()
        finally:
            self._reader.release()

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

    def _getting(self, deadline: float | None) -> Waiting[tuple[int, Any]]:
        words = self._words
        began = monotonic()
        for _ in range(LOOKS):
            if words[PUT] != words[TAKEN]:
                packed = self._take_at_once()
                if packed is not None:
                    return packed
        with Place(self._getters, deadline) as place, Sleeper(self._bell, deadline) as sleeper:
            yield from place.coming_first()
            while True:
                self._check_open()
                if not (yield from self._turn(self._reader, deadline)):
                    raise Empty
                try:
                    packed = self._take()
                finally:
                    self._reader.release()
                if packed is not None:
                    return packed
                words[READERS_SLEEP] = 1
                kernel.barrier()  # a writer now sees this, or we see what it has put
                shut = words[SHUT]
                if not self.empty():
                    continue
                if shut:
                    raise QueueShutDown(f"{self!r} was shut down, and is empty")
                alone = self._is_alone()
                if alone and not self.empty():
                    continue
                # Who gives a time-out may ask again and again: he is not told at once each time.
                if alone and (deadline is None or sleeper.late or monotonic() - began >= LOOK):
                    raise QueueAbandoned(f"{self!r} is empty, and nobody else holds it any more: nothing can come")
                if sleeper.late:
                    raise Empty
                before = monotonic()
                yield sleeper
                if monotonic() - before > LOOK / 2:
                    self._give_back()

    def _unpack(self, packed: tuple[int, Any]) -> T:
        kind, data = packed
        if kind == BYTES:
            value: T = data
        elif kind == PICKLE:
            value = pickle.loads(data)
        else:
            value = items.load(data)
        return value

    def _give_back(self) -> None:
        """The memory of a large ring, if nobody is about to put something in."""
        if not self._reader.acquire_at_once():
            return
        try:
            if not self._writer.acquire_at_once():
                return
            try:
                tail = TAILS + 3 * (self._words[PUT] & 1)
                if self.empty() and self._words[tail + 2] > SMALL:
                    kernel.punch_hole(self._file, self._words[tail + 1], self._words[tail + 2])
            finally:
                self._writer.release()
        finally:
            self._reader.release()

    # ---- looking

    def empty(self) -> bool:
        """Is nothing in it, at this moment?"""
        return bool(self._words[PUT] == self._words[TAKEN])

    def full(self) -> bool:
        """Is there no room, at this moment?"""
        bound = self._words[BOUND]
        return bool(bound and self._words[PUT] - self._words[TAKEN] >= bound)

    def close(self) -> None:
        """This process will use it no more. What is in it stays there for the others."""
        if not self._closed:
            self._closed = True
            self._here.pop(self.key, None)
            for mutex in (self._writer, self._reader):  # of a thread that is still in here
                mutex.disown()
            self._own.leave()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key:x}{' closed' if self._closed else ''}>"


class Queue(SimpleQueue[T]):
    """A queue of at most `maxsize` items; 0: without bounds, whatever a process puts before anybody reads.

    Several processes may put and get. The order of what one of them puts is kept. A handle (a lock, a queue, the end
    of a pipe) cannot be an item: only bytes travel here.
    """

    def __init__(self, maxsize: int = 0) -> None:
        if isinstance(maxsize, bool) or not hasattr(type(maxsize), "__index__"):
            raise TypeError(f"maxsize must be a whole number, got {maxsize!r}")
        super().__init__()
        self._words[BOUND] = max(0, int(maxsize))

    def put(self, obj: T, block: bool = True, timeout: float | None = None) -> None:
        """Put an item in, waiting up to `timeout` seconds for room (None: as long as it takes).

        Raises:
            queue.Full: there was no room in time, or at once for `block=False`.
            procoro.errors.NotPicklable: it cannot travel; the message gives its path.
            procoro.errors.QueueShutDown: the queue was shut down.
            ValueError: the queue is closed.
        """
        deadline = None if timeout is None else deadline_of(timeout)
        packed = self._pack(obj)
        if not (self._writer.acquire_at_once() and self._append_at_once(packed)):
            sleep_until(self._putting(packed, deadline) if block else self._putting_now(packed))

    async def aput(self, obj: T, timeout: float | None = None) -> None:
        """As `put`, to be awaited."""
        deadline = deadline_of(timeout)
        packed = self._pack(obj)
        if not (self._writer.acquire_at_once() and self._append_at_once(packed)):
            await wait(self._putting(packed, deadline))

    def put_nowait(self, obj: T) -> None:
        """As `put(obj, block=False)`."""
        self.put(obj, False)

    def _putting_now(self, packed: Packed) -> Waiting[None]:
        turn = yield from self._turn(self._writer, deadline_of(STOPPED))
        if not turn or not self._append_at_once(packed):
            raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the next item out, waiting up to `timeout` seconds for it (None: as long as it takes).

        Raises:
            queue.Empty: none came in time, or is there, for `block=False`.
            procoro.errors.QueueAbandoned: the queue is empty, and all who held it besides this process are gone. (An
                EOFError; and queue.Empty, for those who ask again and again with a `timeout`.)
            procoro.errors.QueueShutDown: the queue was shut down, and is empty.
            ValueError: the queue is closed.
        """
        if block:
            return self._get(None if timeout is None else deadline_of(timeout))
        packed = self._take_at_once()
        return self._unpack(packed if packed is not None else sleep_until(self._getting_now()))

    async def aget(self, timeout: float | None = None) -> T:
        """As `get`, to be awaited."""
        return await self._aget(deadline_of(timeout))

    def get_nowait(self) -> T:
        """As `get(block=False)`."""
        return self.get(False)

    def _getting_now(self) -> Waiting[tuple[int, Any]]:
        packed = None
        if (yield from self._turn(self._reader, deadline_of(STOPPED))):
            try:
                packed = self._take()
            finally:
                self._reader.release()
        if packed is None:
            if self._words[SHUT]:
                raise QueueShutDown(f"{self!r} was shut down, and is empty")
            raise Empty
        return packed

    def qsize(self) -> int:
        """How many items are in it, at this moment."""
        size: int = self._words[PUT] - self._words[TAKEN]
        return size

    def shutdown(self, immediate: bool = False) -> None:
        """Take no more: `put` raises `QueueShutDown`, and so does `get` once it is empty.

        `immediate`: what is in it is dropped.
        """
        sleep_until(self._shutting(immediate))

    def _shutting(self, immediate: bool) -> Waiting[None]:
        yield from self._turn(self._writer, None)
        try:
            self._words[SHUT] = 1
        finally:
            self._writer.release()
        if immediate:
            yield from self._turn(self._reader, None)
            try:
                while self._take() is not None:
                    self._dropped()
            finally:
                self._reader.release()
        ring_bell(self._bell)

    def _dropped(self) -> None:
        """An item is gone that nobody will work on."""

    def join_thread(self) -> None:
        """There is no thread: what is put is there."""

    def cancel_join_thread(self) -> None:
        """There is no thread: what is put is there."""

    async def __aiter__(self) -> AsyncIterator[T]:
        """The items, until the queue was shut down, or all others who held it are gone."""
        while True:
            try:
                yield await self.aget()
            except (QueueShutDown, QueueAbandoned):
                return
