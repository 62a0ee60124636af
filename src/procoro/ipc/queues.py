"""`multiprocessing`'s queues, in which nothing is lost, torn or stuck when a process dies, and which can be awaited.

Where the items lie, and why none is lost, says `rings`; here one waits: for a turn, for room, for an item.
"""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator
from queue import Empty, Full
from time import monotonic
from typing import Any, Generic, TypeVar

from procoro import kernel
from procoro.errors import QueueAbandoned, QueueShutDown
from procoro.ipc import items
from procoro.ipc.line import Lines, Place
from procoro.ipc.mutex import Mutex
from procoro.ipc.rings import (
    BOUND,
    BYTES,
    PARTS,
    PICKLE,
    PUT,
    READER,
    READERS_SLEEP,
    SHUT,
    TAILS,
    TAKEN,
    WRITER,
    WRITERS_SLEEP,
    Packed,
    Rings,
)
from procoro.ipc.waiting import LOOK, STOPPED, Sleeper, Waiting, deadline_of, ring_bell, sleep_until, wait

T = TypeVar("T")
SMALL = 1 << 20  # bytes: a larger ring's memory is given back while a reader waits in vain
LOOKS = 40  # at the counts, before one sleeps: a wake-up costs 50 µs


class SimpleQueue(Rings, Generic[T]):
    """A queue without bounds. An item is in it when `put` returns, also if this process ends then.

    `get` from a queue that is empty, and that nobody else holds any more, raises EOFError.

    >>> from procoro import SimpleQueue
    >>> queue = SimpleQueue()
    >>> queue.put("x")
    >>> queue.get()
    'x'
    """

    def _prepare(self) -> None:
        super()._prepare()
        self._closed = False
        self._writer = Mutex(self, None, WRITER)
        self._reader = Mutex(self, 1, READER)
        self._putters, self._getters = Lines(), Lines()

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

    # ---- leaving

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
