"""`multiprocessing`'s locks and semaphores, which a death opens, and which can be awaited.

None is fair between processes or threads: whoever comes at the right time has it. A strict queue would cost a wake-up
of a sleeping process for each hand-over: sixty times as much, measured. Tasks of one loop, or greenlets of one thread,
have it in the order in which they came, as in asyncio: one that took it again and again would never let another in.
"""

from __future__ import annotations

import sys
import threading
from time import monotonic
from typing import Any, ClassVar

from procoro import arguments
from procoro.errors import NotHeld
from procoro.ipc import mutex, shared
from procoro.ipc.line import Lines, Place
from procoro.ipc.mutex import Mutex
from procoro.ipc.shared import FIRST_WORD, Shared
from procoro.ipc.table import Table
from procoro.ipc.waiting import LOOK, STOPPED, Sleeper, Waiting, deadline_of, may_block, ring_bell, sleep_until, wait

BYTE, MUTEX = 1, FIRST_WORD  # where the mutex of each object stands
OWN = MUTEX + mutex.WORDS  # the first word that is its own
PAGE = 4096 // 8
LOOKS = 40  # for a permit, before one sleeps: many are held for microseconds, and a wake-up costs 50


class Acquired:
    """What is acquired and released, by `with` and `async with`."""

    _lines: Lines

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take it, waiting up to `timeout` seconds (None: as long as it takes); `block=False`: only if it is free.

        True: it is held.
        """
        deadline = deadline_of(timeout)
        if not block:
            return self._at_once()
        return ((not self._lines or self._may_pass()) and self._at_once()) or sleep_until(self._acquiring(deadline))

    async def aacquire(self, timeout: float | None = None) -> bool:
        """As `acquire`, to be awaited: the event loop goes on meanwhile."""
        deadline = deadline_of(timeout)
        return ((not self._lines or self._is_ours()) and self._at_once()) or await wait(self._acquiring(deadline))

    def release(self) -> None:
        """Let it go."""
        raise NotImplementedError

    def _at_once(self) -> bool:
        raise NotImplementedError

    def _acquiring(self, deadline: float | None) -> Waiting[bool]:
        raise NotImplementedError

    def _is_ours(self) -> bool:
        """May this thread, task or greenlet, which holds it, take it again?"""
        return False

    def _may_pass(self) -> bool:
        """May one who comes have it before those who stand in a line?"""
        return may_block() or self._is_ours()

    def __enter__(self) -> bool:
        return ((not self._lines or self._may_pass()) and self._at_once()) or sleep_until(self._acquiring(None))

    def __exit__(self, *_: object) -> None:
        self.release()

    async def __aenter__(self) -> bool:
        return ((not self._lines or self._is_ours()) and self._at_once()) or await wait(self._acquiring(None))

    async def __aexit__(self, *_: object) -> None:
        self.release()


class Lock(Acquired, Shared):
    """A lock between processes, threads, tasks and greenlets; it belongs to the process that holds it.

    If that dies, the next who waits has it, and can see so: `owner_died`. Taking it and letting it go costs about
    0.3 µs while only one process does, then 2 µs (`multiprocessing.Lock` 0.1 µs, and a dead holder stops all for ever).

    >>> from procoro import Lock
    >>> lock = Lock()
    >>> with lock:
    ...     lock.acquire(block=False)
    False
    """

    def _prepare(self) -> None:
        self._mutex = Mutex(self, BYTE, MUTEX)
        self._lines = self._mutex.lines

    def _at_once(self) -> bool:
        return self._mutex.acquire_at_once()

    def _acquiring(self, deadline: float | None) -> Waiting[bool]:
        return self._mutex.acquiring(deadline)

    def release(self) -> None:
        """Let it go.

        Raises:
            procoro.errors.NotHeld: this process does not hold it.
        """
        if not self._mutex.held:
            raise NotHeld(f"{self!r} is released, but this process does not hold it: only its holder may")
        self._mutex.release()

    def locked(self) -> bool:
        """Is it held, by anyone?"""
        return self._mutex.is_held()

    def _times(self) -> int:
        """How often it is held."""
        return 1

    def _release_all(self) -> None:
        """Let it go, however often it is held."""
        self.release()

    def _restore(self, count: int) -> None:
        """Be held as often as before `_release_all`."""

    @property
    def owner_died(self) -> int | None:
        """Asked by its holder: the pid of who held it before, if it died holding it: what it was changing may be
        half changed. None otherwise."""
        return (self._mutex.former or None) if self._mutex.held else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key:x}{' held here' if self._mutex.held else ''}>"


class RLock(Lock):
    """A `Lock` that its holder, a thread, task or greenlet, may take again; it is free when that has released it as
    often."""

    def _prepare(self) -> None:
        super()._prepare()
        self._holder: object = None
        self._count = 0

    def _is_ours(self) -> bool:
        return self._holder == current()

    def _at_once(self) -> bool:
        me = current()
        if self._holder != me:
            if not self._mutex.acquire_at_once():
                return False
            self._holder = me
        self._count += 1
        return True

    def _acquiring(self, deadline: float | None) -> Waiting[bool]:
        me = current()  # before: behind a call, a signal handler may raise
        if not (yield from self._mutex.acquiring(deadline)):
            return False
        self._holder, self._count = me, 1
        return True

    def release(self) -> None:
        """Let it go once.

        Raises:
            procoro.errors.NotHeld: this thread, task or greenlet does not hold it.
        """
        if self._holder is None or self._holder != current():
            raise NotHeld(f"{self!r} is released by a thread or task that does not hold it: only its holder may")
        self._count -= 1
        if not self._count:
            self._holder, turn = None, self._mutex.turn
            try:
                self._mutex.release()
            except BaseException:
                self._mutex.release_after_all(turn)
                raise

    def _times(self) -> int:
        return self._count

    def _release_all(self) -> None:
        self._count = 1
        self.release()

    def _restore(self, count: int) -> None:
        self._count = count


def current() -> object:
    """The thread, task or greenlet that runs now."""
    asyncio = sys.modules.get("asyncio")  # it, and greenlet, may be half imported by another thread
    if asyncio is not None and hasattr(asyncio, "_get_running_loop") and asyncio._get_running_loop() is not None:
        return asyncio.current_task() or threading.get_ident()
    getcurrent: Any = getattr(sys.modules.get("greenlet"), "getcurrent", None)
    own = None if getcurrent is None else getcurrent()
    # A thread's first greenlet is the thread: it may hold a lock while greenlet is imported.
    return threading.get_ident() if own is None or own.parent is None else (threading.get_ident(), id(own))


class Guarded(Shared):
    """State in words, under a mutex, with a flag that says whether anybody sleeps."""

    _WORDS = 8 * PAGE
    _SLEEPERS, _NEWS = OWN, OWN + 1
    _FIRST: ClassVar[int] = OWN + 2  # word of its own

    def _prepare(self) -> None:
        self._mutex = Mutex(self, BYTE, MUTEX)

    def _lock(self) -> None:
        if not self._mutex.acquire_at_once():
            sleep_until(self._mutex.acquiring(None))

    def _locking(self, deadline: float | None = None) -> Waiting[bool]:
        if self._mutex.acquire_at_once():
            return True
        return (yield from self._mutex.acquiring(deadline))

    def _ring(self) -> None:
        """Wake who sleeps. Before the state is changed, under the mutex: who wakes waits for that, and if we die
        in between, nobody sleeps through a change."""
        if self._words[self._SLEEPERS]:
            self._words[self._NEWS] += 1
            ring_bell(self._bell)
            self._words[self._SLEEPERS] = 0

    def _will_sleep(self) -> int:
        """Be told of changes: the number of the last. For the mutex's holder."""
        self._words[self._SLEEPERS] = 1
        news: int = self._words[self._NEWS]
        return news

    def _sleeping(self, sleeper: Sleeper, news: int, seconds: float = LOOK) -> Waiting[None]:
        """Until there may be something newer to see, for so many seconds at most.

        The mutex rings the same bell. Who took the mutex to look what there is, each time that it rings, would make
        it ring again: two processes kept each other awake so a thousand times before they came to anything.
        """
        until = monotonic() + seconds
        yield sleeper.within(seconds)
        while sleeper.only_rung and self._words[self._NEWS] == news and (left := until - monotonic()) > 0:
            yield sleeper.within(left)


class Semaphore(Acquired, Guarded):
    """`value` permits. A process that dies gives back those that it held.

    Anyone may release it: that takes over the oldest hold (the releaser's own, if it has one), or else adds a permit.
    """

    _TOTAL, _TAKEN, _HOLDERS = range(Guarded._FIRST, Guarded._FIRST + 3)

    def __init__(self, value: int = 1) -> None:
        value = arguments.count("value", value, 0)
        super().__init__()
        self._words[self._TOTAL] = value

    def _prepare(self) -> None:
        super()._prepare()
        self._table = Table(self._words, self._HOLDERS)
        self._lines = Lines()

    def _free(self) -> int:
        """How many permits are free: for who does not hold the mutex, more or less."""
        free: int = self._words[self._TOTAL] - sum(map(self._table.value, self._table.entries()))
        return free

    def _take(self) -> bool:
        if self._free() <= 0:
            return False
        mine = self._table.mine()
        if mine is None:
            self._words[self._TAKEN] += 1  # tells the older hold
            self._table.add(1, self._words[self._TAKEN])
        else:
            self._table.set(mine, self._table.value(mine) + 1)
        return True

    def _bury(self) -> None:
        """What the dead held is free: somebody may sleep beside it."""
        if dead := self._table.dead():
            self._ring()
        for entry in dead:
            self._table.remove(entry)

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take a permit, waiting up to `timeout` seconds (None: as long as it takes); `block=False`: if one is free.

        True: it is held.
        """
        deadline = deadline_of(timeout)
        taken = (not block or not self._lines or self._may_pass()) and self._at_once()
        return taken or sleep_until(self._acquiring(deadline) if block else self._acquiring_now())

    def _at_once(self) -> bool:
        if not self._mutex.acquire_at_once():
            return False
        turn = self._mutex.turn
        try:
            return self._take()
        finally:
            try:
                self._mutex.release()
            except BaseException:
                self._mutex.release_after_all(turn)
                raise

    def _acquiring_now(self) -> Waiting[bool]:
        """If somebody is just taking or giving one, wait for that: it takes microseconds, if he is not stopped."""
        if not (yield from self._locking(deadline_of(STOPPED))):
            return False
        turn = self._mutex.turn
        try:
            if self._free() <= 0:
                self._bury()
            return self._take()
        finally:
            try:
                self._mutex.release()
            except BaseException:
                self._mutex.release_after_all(turn)
                raise

    def _acquiring(self, deadline: float | None) -> Waiting[bool]:
        table = self._table
        looks = not self._lines and any(table.pid(entry) != shared.pid for entry in table.entries())
        for _ in range(LOOKS if looks else 0):
            if self._free() > 0 and self._at_once():
                return True
        with Place(self._lines, deadline) as place, Sleeper(self._bell, deadline) as sleeper:
            yield from place.coming_first()
            while True:
                # Whether the holders live is asked outside the mutex: it takes ten times as long as all that is done
                # within, and others would find it taken, and lie down to sleep.
                dead = table.dead()
                if not (yield from self._locking(deadline)):
                    return False
                turn = self._mutex.turn
                try:
                    if dead:
                        self._bury()
                    if self._take():
                        return True
                    if sleeper.late:
                        return False
                    news = self._will_sleep()
                finally:
                    try:
                        self._mutex.release()
                    except BaseException:
                        self._mutex.release_after_all(turn)
                        raise
                if sleeper.watch({table.pid(entry) for entry in table.entries()}):
                    yield from self._sleeping(sleeper, news)

    def release(self) -> None:
        """Give a permit back."""
        interrupted = self._mutex.acquire_surely()
        turn = self._mutex.turn
        try:
            entry = self._to_release()
            self._ring()
            if entry is None:
                self._words[self._TOTAL] += 1
            else:
                self._table.set(entry, self._table.value(entry) - 1)
        finally:
            try:
                self._mutex.release()
            except BaseException:
                self._mutex.release_after_all(turn)
                raise
        if interrupted is not None:
            raise interrupted

    def _to_release(self) -> int | None:
        mine = self._table.mine()
        return mine if mine is not None else min(self._table.entries(), key=self._table.extra, default=None)

    def get_value(self) -> int:
        """How many permits are free now."""
        self._lock()
        turn = self._mutex.turn
        try:
            self._bury()
            return max(0, self._free())
        finally:
            try:
                self._mutex.release()
            except BaseException:
                self._mutex.release_after_all(turn)
                raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key:x} free={self.get_value()}>"


class BoundedSemaphore(Semaphore):
    """A `Semaphore` whose permits belong to the process that holds them: only that may release them."""

    def _to_release(self) -> int | None:
        mine = self._table.mine()
        if mine is None:
            raise NotHeld(f"{type(self).__name__} {self.key:x} is released, but this process holds no permit of it")
        return mine
