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
from typing import Any, ClassVar, Generic, TypeVar

from procoro import kernel
from procoro.errors import ConsumerDied, QueueShutDown
from procoro.ipc import items, mutex
from procoro.ipc.mutex import Mutex
from procoro.ipc.shared import FIRST_WORD, Shared
from procoro.ipc.table import Table
from procoro.ipc.waiting import LOOK, Sleeper, Waiting, deadline_of, ring, wait
from procoro.ipc.waiting import block as sleep_until

T = TypeVar("T")
HEAD = struct.Struct("<QQ")  # bytes and kind; of a jump, where to
BYTES, PICKLE, PARTS, PAD, JUMP = range(5)
ALIGNED = 16  # so that there is always room for one more head
FIRST_RING = 1 << 16  # bytes
KEPT = 1 << 27  # bytes of the largest ring whose memory is used again and again: a larger one gives it back
DUG = 1 << 22  # in pieces of so many bytes as it is read,
SMALL = 1 << 20  # and of any but a small one while a reader waits in vain
BIG = 64 * 1024  # bytes from which on a buffer is written from where it is
STOPPED = 1.0  # seconds that one who must not wait waits for who is in the midst of a put or get
LOOKS = 40  # at the count, before a reader sleeps: a wake-up costs 50 µs

Packed = tuple[int, Sequence[bytes | memoryview], int]


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
    WRITER, READER = FIRST_WORD, FIRST_WORD + mutex.WORDS
    PUT = READER + mutex.WORDS
    TAKEN, READERS_SLEEP, WRITERS_SLEEP, BOUND, SHUT, END, DONE, JOINERS_SLEEP = range(PUT + 1, PUT + 9)
    FREED, FREED_IN = PUT + 9, PUT + 10  # how far the ring's memory is the writers' again; of which ring that is said
    TAILS = PUT + 11  # two of three words: place in the ring, where the ring begins, its size
    HEADS = TAILS + 6
    CONSUMERS = HEADS + 6

    def __init__(self) -> None:
        super().__init__()
        start = 8 * self.WORDS
        for place in (self.TAILS, self.HEADS):
            self._words[place + 1], self._words[place + 2] = start, FIRST_RING
        self._words[self.END] = start + FIRST_RING
        self._words[self.FREED_IN] = start

    def _prepare(self) -> None:
        self._closed = False
        self._writer = Mutex(self, 1, self.WRITER)
        self._reader = Mutex(self, 3, self.READER)
        self._written = self._read = 8 * self.WORDS, self._more  # the rings that we write to and read from
        self._room = 0  # as far as this, in that ring, there was room when we last looked

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

    def _pack(self, obj: Any) -> Packed:
        if self._closed:
            raise ValueError(f"{self!r} is closed")
        if type(obj) is bytes:
            return BYTES, (obj,), len(obj)
        body, views = items.dump(obj, "item")
        if not views:
            return PICKLE, (body,), len(body)
        pieces = items.join(body, views)
        return PARTS, pieces, sum(map(len, pieces))

    def _append_at_once(self, packed: Packed) -> bool:
        """For the writer, whose turn ends with it. False: there is no room."""
        try:
            if self._words[self.SHUT]:
                raise QueueShutDown(f"{self!r} was shut down")
            bound = self._words[self.BOUND]
            if bound and self._words[self.PUT] - self._words[self.TAKEN] >= bound:
                return False
            self._append(packed)
            return True
        finally:
            self._writer.release()

    def _append(self, packed: Packed) -> None:
        kind, pieces, size = packed
        words = self._words
        put = words[self.PUT]
        tail = self.TAILS + 3 * (put & 1)
        place, start, ring_size = words[tail], words[tail + 1], words[tail + 2]
        whole = HEAD.size + size + (-size & ALIGNED - 1)
        at = place % ring_size
        if self._written[0] != start:
            self._written, self._room = (start, self._map(start, ring_size)), 0
        memory = self._written[1]
        if at + whole > ring_size:  # it is not broken: it goes to the ring's beginning
            whole += ring_size - at
        if place + whole + HEAD.size > self._room:
            self._room = self._look_for_room(start) + ring_size
        drained = ring_size > KEPT and words[self.TAKEN] == put
        if drained or place + whole + HEAD.size > self._room:
            start, ring_size, larger = self._make_ring(FIRST_RING if drained else 2 * ring_size, size)
            memory[at : at + HEAD.size] = HEAD.pack(ring_size << 8 | JUMP, start)
            self._written = start, (memory := larger)
            place = at = 0
            self._room = ring_size
            whole = HEAD.size + size + (-size & ALIGNED - 1)
        elif at + HEAD.size + size > ring_size:
            memory[at : at + HEAD.size] = HEAD.pack(PAD, 0)
            at = 0
        if size < BIG:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            memory[at : at + HEAD.size + size] = HEAD.pack(size << 8 | kind, 0) + body
        else:
            memory[at : at + HEAD.size] = HEAD.pack(size << 8 | kind, 0)
            at += HEAD.size
            for piece in pieces:
                memory[at : at + len(piece)] = piece
                at += len(piece)
        following = self.TAILS + 3 * (put + 1 & 1)
        words[following], words[following + 1], words[following + 2] = place + whole, start, ring_size
        self._store(self.PUT, put + 1)
        if words[self.READERS_SLEEP]:
            words[self.READERS_SLEEP] = 0
            ring(self._bell)

    def _store(self, place: int, value: int) -> None:
        """Set a word after all that was written before, as other processes see it."""
        if kernel.STORES_IN_ORDER:
            self._words[place] = value
        else:
            os.pwrite(self._file, value.to_bytes(8, sys.byteorder), 8 * place)

    def _look_for_room(self, start: int) -> int:
        """For the writer: how far, in the ring that begins there, memory has been freed."""
        freed: int = self._words[self.FREED] if self._words[self.FREED_IN] == start else 0
        return freed

    def _make_ring(self, size: int, item: int) -> tuple[int, int, memoryview]:
        start = self._words[self.END]
        size = max(size, -(-2 * (item + 3 * HEAD.size) // mmap.PAGESIZE) * mmap.PAGESIZE)
        try:
            os.posix_fallocate(self._file, start, size)  # all of it: nobody is to die of touching it
            memory = self._map(start, size)
        except OSError:
            kernel.punch_hole(self._file, start, size)
            raise
        self._words[self.END] = start + size
        return start, size, memory

    def _putting(self, packed: Packed, deadline: float | None) -> Waiting[None]:
        with Sleeper(self._bell, deadline) as sleeper:
            while True:
                if not (yield from self._turn(self._writer, deadline)):
                    raise Full
                if self._append_at_once(packed):
                    return
                if sleeper.late:
                    raise Full
                self._words[self.WRITERS_SLEEP] = 1
                kernel.barrier()  # a reader now sees this, or we see what it has taken
                if self.full() and not self._words[self.SHUT]:
                    yield sleeper

    def _turn(self, mutex: Mutex, deadline: float | None) -> Waiting[bool]:
        if mutex.acquire_at_once():
            return True
        return (yield from mutex.acquiring(deadline))

    # ---- getting

    def get(self) -> T:
        """Take the next item out, waiting for it.

        Raises:
            EOFError: the queue is empty, and all who held it besides this process are gone.
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
        taken = words[self.TAKEN]
        if words[self.PUT] == taken:
            return None
        head = self.HEADS + 3 * (taken & 1)
        place, start, ring_size = words[head], words[head + 1], words[head + 2]
        left = None
        while True:
            if self._read[0] != start:
                self._read = start, self._map(start, ring_size)
            memory = self._read[1]
            at = place % ring_size
            size, where = HEAD.unpack_from(memory, at)
            kind, size = size & 255, size >> 8
            at += HEAD.size
            if kind <= PARTS:
                break
            if kind == PAD:
                place += ring_size - at + HEAD.size
            else:
                left = start, ring_size
                place, start, ring_size = 0, where, size
        data = (bytearray if kind == PARTS else bytes)(memory[at : at + size])
        following = self.HEADS + 3 * (taken + 1 & 1)
        place += HEAD.size + size + (-size & ALIGNED - 1)
        words[following], words[following + 1], words[following + 2] = place, start, ring_size
        if self._counts:
            self._count_taken()
        self._store(self.TAKEN, taken + 1)
        if words[self.WRITERS_SLEEP]:
            words[self.WRITERS_SLEEP] = 0
            ring(self._bell)
        if left is not None:
            kernel.punch_hole(self._file, *left)
            words[self.FREED] = 0
            words[self.FREED_IN] = start
        self._free(place, start, ring_size)
        return kind, data

    def _free(self, place: int, start: int, ring_size: int) -> None:
        """Let writers have the memory up to this place again."""
        words = self._words
        if ring_size > KEPT:
            freed = words[self.FREED]
            place -= place % mmap.PAGESIZE
            if place - freed < DUG:
                return
            first, last = freed % ring_size, place % ring_size
            if first < last:
                kernel.punch_hole(self._file, start + first, last - first)
            else:
                kernel.punch_hole(self._file, start + first, ring_size - first)
                kernel.punch_hole(self._file, start, last)
        words[self.FREED] = place

    def _count_taken(self) -> None:
        """For those who count who has taken what."""

    def _getting(self, deadline: float | None) -> Waiting[tuple[int, Any]]:
        words = self._words
        for _ in range(LOOKS):
            if words[self.PUT] != words[self.TAKEN]:
                break
        with Sleeper(self._bell, deadline) as sleeper:
            while True:
                if not (yield from self._turn(self._reader, deadline)):
                    raise Empty
                try:
                    packed = self._take()
                finally:
                    self._reader.release()
                if packed is not None:
                    return packed
                words[self.READERS_SLEEP] = 1
                kernel.barrier()  # a writer now sees this, or we see what it has put
                shut = words[self.SHUT]
                if not self.empty():
                    continue
                if shut:
                    raise QueueShutDown(f"{self!r} was shut down, and is empty")
                if sleeper.late:
                    raise Empty
                if self._is_alone():
                    if self.empty():
                        raise EOFError(f"{self!r} is empty, and nobody else holds it any more: nothing can come")
                    continue
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
                tail = self.TAILS + 3 * (self._words[self.PUT] & 1)
                if self.empty() and self._words[tail + 2] > SMALL:
                    kernel.punch_hole(self._file, self._words[tail + 1], self._words[tail + 2])
            finally:
                self._writer.release()
        finally:
            self._reader.release()

    # ---- looking

    def empty(self) -> bool:
        """Is nothing in it, at this moment?"""
        return bool(self._words[self.PUT] == self._words[self.TAKEN])

    def full(self) -> bool:
        """Is there no room, at this moment?"""
        bound = self._words[self.BOUND]
        return bool(bound and self._words[self.PUT] - self._words[self.TAKEN] >= bound)

    def close(self) -> None:
        """This process will use it no more. What is in it stays there for the others."""
        if not self._closed:
            self._closed = True
            self._here.pop(self.key, None)
            super()._leave()

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
        self._words[self.BOUND] = max(0, int(maxsize))

    def put(self, obj: T, block: bool = True, timeout: float | None = None) -> None:
        """Put an item in, waiting up to `timeout` seconds for room (None: as long as it takes).

        Raises:
            queue.Full: there was no room in time, or at once for `block=False`.
            procoro.errors.NotPicklable: it cannot travel; the message gives its path.
            procoro.errors.QueueShutDown: the queue was shut down.
            ValueError: the queue is closed.
        """
        deadline = _deadline(timeout)
        packed = self._pack(obj)
        if not (self._writer.acquire_at_once() and self._append_at_once(packed)):
            sleep_until(self._putting(packed, deadline) if block else self._putting_now(packed))

    async def aput(self, obj: T, timeout: float | None = None) -> None:
        """As `put`, to be awaited."""
        deadline = _deadline(timeout)
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
            EOFError: the queue is empty, and all who held it besides this process are gone.
            procoro.errors.QueueShutDown: the queue was shut down, and is empty.
            ValueError: the queue is closed.
        """
        if block:
            return self._get(_deadline(timeout))
        packed = self._take_at_once()
        return self._unpack(packed if packed is not None else sleep_until(self._getting_now()))

    async def aget(self, timeout: float | None = None) -> T:
        """As `get`, to be awaited."""
        return await self._aget(_deadline(timeout))

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
            if self._words[self.SHUT]:
                raise QueueShutDown(f"{self!r} was shut down, and is empty")
            raise Empty
        return packed

    def qsize(self) -> int:
        """How many items are in it, at this moment."""
        size: int = self._words[self.PUT] - self._words[self.TAKEN]
        return size

    def shutdown(self, immediate: bool = False) -> None:
        """Take no more: `put` raises `QueueShutDown`, and so does `get` once it is empty.

        `immediate`: what is in it is dropped.
        """
        sleep_until(self._shutting(immediate))

    def _shutting(self, immediate: bool) -> Waiting[None]:
        yield from self._turn(self._writer, None)
        try:
            self._words[self.SHUT] = 1
        finally:
            self._writer.release()
        if immediate:
            yield from self._turn(self._reader, None)
            try:
                while self._take() is not None:
                    self._dropped()
            finally:
                self._reader.release()
        ring(self._bell)

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
            except (QueueShutDown, EOFError):
                return


class JoinableQueue(Queue[T]):
    """A `Queue` that knows what of it is still being worked on."""

    WORDS = 4096
    _counts = True

    def _prepare(self) -> None:
        super()._prepare()
        self._table = Table(self._words, self.CONSUMERS)

    def _count_taken(self) -> None:
        # In the entry of a process: what it took, less what it has done, from a number that is never reached.
        self._add(1)

    def _add(self, count: int) -> None:
        mine = self._table.mine()
        if mine is None:
            self._table.add(MIDDLE + count)
        else:
            self._table.set(mine, self._table.value(mine) + count)

    def _dropped(self) -> None:
        self._add(-1)
        self._words[self.DONE] += 1

    def task_done(self) -> None:
        """An item that was taken has been worked on.

        Raises:
            ValueError: more often than items were put.
        """
        sleep_until(self._doing())

    def _doing(self) -> Waiting[None]:
        yield from self._turn(self._reader, None)
        try:
            if self._words[self.DONE] >= self._words[self.TAKEN]:
                raise ValueError("task_done() called too many times")
            if self._words[self.JOINERS_SLEEP]:
                ring(self._bell)
                self._words[self.JOINERS_SLEEP] = 0
            self._words[self.DONE] += 1
            self._add(-1)
        finally:
            self._reader.release()

    def join(self) -> None:
        """Wait until all that was put has been worked on.

        Raises:
            procoro.errors.ConsumerDied: a process died between `get` and `task_done`.
        """
        sleep_until(self._joining())

    async def ajoin(self) -> None:
        """As `join`, to be awaited."""
        await wait(self._joining())

    def _joining(self) -> Waiting[None]:
        with Sleeper(self._bell, None) as sleeper:
            while self._words[self.DONE] != self._words[self.PUT]:
                yield from self._turn(self._reader, None)
                try:
                    consumers = self._consumers()
                    self._words[self.JOINERS_SLEEP] = 1
                finally:
                    self._reader.release()
                if self._words[self.DONE] == self._words[self.PUT]:
                    return
                sleeper.watch(consumers)
                yield sleeper

    def _consumers(self) -> list[int]:
        """For the reader: who works on items. Raises if who took one is dead."""
        alive = [entry for entry in self._table.entries() if self._table.is_alive(entry)]
        held = sum(self._table.value(entry) - MIDDLE for entry in alive)
        lost = self._words[self.TAKEN] - self._words[self.DONE] - held
        if lost > 0:
            dead = sorted({self._table.pid(entry) for entry in self._table.dead()})
            raise ConsumerDied(
                f"{self!r}: {lost} item{'s' if lost > 1 else ''} taken by who died before task_done()"
                + (f" (process {', '.join(map(str, dead))})" if dead else "")
            )
        return [self._table.pid(entry) for entry in alive if self._table.value(entry) > MIDDLE]


MIDDLE = 1 << 40


def _deadline(timeout: float | None) -> float | None:
    deadline = deadline_of(timeout)
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must be >= 0 seconds or None, got {timeout!r}")
    return deadline
