"""`multiprocessing`'s Event, Condition and Barrier, in which nobody waits for the dead, and which can be awaited."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from procoro import arguments
from procoro.errors import NotHeld
from procoro.ipc.line import Lines
from procoro.ipc.locks import PAGE, Acquired, Guarded, Lock, RLock, current
from procoro.ipc.shared import FIRST_WORD, Shared
from procoro.ipc.table import Table
from procoro.ipc.waiting import LOOK, Sleeper, Waiting, deadline_of, ring_bell, sleep_until, wait

T = TypeVar("T")
BrokenBarrierError = threading.BrokenBarrierError
RESET = "the barrier was reset"
SOON = 0.05  # seconds in which most parties come


class Event(Guarded):
    """A flag that can be waited for."""

    _FLAG, _SETS = Guarded._FIRST, Guarded._FIRST + 1

    def is_set(self) -> bool:
        """Is the flag set?"""
        return bool(self._words[self._FLAG])

    def set(self) -> None:
        """Set the flag, and wake all who wait for it."""
        self._change(1)

    def clear(self) -> None:
        """Take the flag down."""
        self._change(0)

    def _change(self, value: int) -> None:
        self._lock()
        try:
            self._ring()
            self._words[self._SETS] += value
            self._words[self._FLAG] = value
        finally:
            self._mutex.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set, up to `timeout` seconds (None: as long as it takes); is it?"""
        deadline = deadline_of(timeout)
        return self.is_set() or sleep_until(self._waiting(deadline))

    async def await_(self, timeout: float | None = None) -> bool:
        """As `wait`, to be awaited."""
        deadline = deadline_of(timeout)
        return self.is_set() or await wait(self._waiting(deadline))

    def _waiting(self, deadline: float | None) -> Waiting[bool]:
        sets = self._words[self._SETS]  # it may be set, and taken down again, before we look
        with Sleeper(self._bell, deadline) as sleeper:
            while True:
                if not (yield from self._locking(deadline)):
                    return self.is_set()
                try:
                    was_set = self.is_set() or self._words[self._SETS] != sets
                    if was_set or sleeper.late:
                        return was_set
                    news = self._will_sleep()
                finally:
                    self._mutex.release()
                yield from self._sleeping(sleeper, news)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key:x} {'set' if self.is_set() else 'not set'}>"


WAITS, NOTIFIED = 1, 2


class Condition(Acquired, Shared):
    """A lock, and to wait under it until somebody notifies. `lock`: a `Lock` or `RLock`; None: an `RLock` of its own.

    A notification goes to who has waited longest, and never to one who has died waiting: if he dies before he goes on,
    another has it within about a second.
    """

    _WORDS = 8 * PAGE
    # Waits that have begun; those notified that have not gone on, or more: who changes that may die in between; a table
    _TICKETS, _NOTIFIEDS, _WAITERS = range(FIRST_WORD, FIRST_WORD + 3)

    def __init__(self, lock: Lock | None = None) -> None:
        if lock is not None and not isinstance(lock, Lock):
            raise TypeError(f"lock must be a procoro Lock or RLock, got {lock!r}")
        self._inner = RLock() if lock is None else lock
        super().__init__()

    def _prepare(self) -> None:
        self._table = Table(self._words, self._WAITERS)

    def _parts(self) -> tuple[Any, ...]:
        return (self._inner,)

    def _join_parts(self, *parts: Any) -> None:
        (self._inner,) = parts

    @property
    def _lines(self) -> Lines:  # type: ignore[override]
        return self._inner._lines

    def _is_ours(self) -> bool:
        return self._inner._is_ours()

    def _at_once(self) -> bool:
        return self._inner._at_once()

    def _acquiring(self, deadline: float | None) -> Waiting[bool]:
        return self._inner._acquiring(deadline)

    def release(self) -> None:
        """Let the lock go.

        Raises:
            procoro.errors.NotHeld: it is not held here.
        """
        self._inner.release()

    def _check(self) -> None:
        lock = self._inner
        if not (lock._holder == current() if isinstance(lock, RLock) else lock._mutex.held):
            raise NotHeld(f"{self!r}: acquire it before you wait or notify")

    def wait(self, timeout: float | None = None) -> bool:
        """Let the lock go, wait until notified or for `timeout` seconds, and take the lock again; notified?

        Raises:
            procoro.errors.NotHeld: the lock is not held here.
        """
        self._check()
        return sleep_until(self._waiting(deadline_of(timeout)))

    async def await_(self, timeout: float | None = None) -> bool:
        """As `wait`, to be awaited."""
        self._check()
        return await wait(self._waiting(deadline_of(timeout)))

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Wait until `predicate()` is true, looking each time one is notified; its last answer.

        Raises:
            procoro.errors.NotHeld: the lock is not held here.
        """
        self._check()
        return sleep_until(self._waiting_for(predicate, deadline_of(timeout)))

    async def await_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """As `wait_for`, to be awaited."""
        self._check()
        return await wait(self._waiting_for(predicate, deadline_of(timeout)))

    def _waiting_for(self, predicate: Callable[[], T], deadline: float | None) -> Waiting[T]:
        while not (answer := predicate()):
            if not (yield from self._waiting(deadline)):
                return predicate()
        return answer

    def _waiting(self, deadline: float | None) -> Waiting[bool]:
        lock, table = self._inner, self._table
        count, turn = lock._times(), lock._mutex.turn
        interrupted: BaseException | None = None
        over = notified = False
        with Sleeper(self._bell, deadline) as sleeper:
            self._words[self._TICKETS] += 1  # tells the oldest
            entry = table.add(WAITS, self._words[self._TICKETS])
            while entry >= 0:  # who is interrupted, a second time too, has the lock again when that is told
                try:
                    while entry >= 0:  # within: a handler may raise as it goes round
                        if not lock._mutex.is_still_held(turn):
                            if interrupted is None:
                                yield from self._sleeping(sleeper, entry)
                            yield from lock._acquiring(None)
                            turn = lock._mutex.turn
                            over = sleeper.late or self._inherits(entry)
                        if over or interrupted is not None:
                            notified = notified or (table is self._table and table.value(entry) == NOTIFIED)
                            self._leave(table, entry)
                            lock._restore(count)
                            entry = -1
                        else:
                            lock._release_all()
                except GeneratorExit:  # its loop is closed: it never goes on
                    self._leave(table, entry)
                    raise
                except BaseException as error:
                    interrupted = error
        if interrupted is not None:
            if notified:  # it is for somebody else then
                self._notify(1)
            raise interrupted
        return notified

    def _sleeping(self, sleeper: Sleeper, entry: int) -> Waiting[None]:
        """Until it is notified, or late, or may inherit a notification."""
        looks_at = monotonic() + LOOK
        while not (sleeper.late or self._table.value(entry) == NOTIFIED):
            yield sleeper
            if self._words[self._NOTIFIEDS] and monotonic() >= looks_at:  # to look costs, if many wait
                if self._heritage():
                    return
                looks_at = monotonic() + LOOK

    def _heritage(self) -> list[int]:
        """The entries of those who were notified, and have died before they went on."""
        table = self._table
        return [one for one in table.entries() if table.value(one) == NOTIFIED and not table.is_alive(one)]

    def _inherits(self, entry: int) -> bool:
        """For the lock's holder: is it notified, or now in the place of one who has died?"""
        if self._table.value(entry) != NOTIFIED:
            for dead in self._heritage()[:1]:
                self._words[self._NOTIFIEDS] += 1
                self._table.set(entry, NOTIFIED)
                self._table.remove(dead)
                self._words[self._NOTIFIEDS] -= 1
        return self._table.value(entry) == NOTIFIED

    def _leave(self, table: Table, entry: int) -> None:
        """It waits no more."""
        if table is not self._table:  # this is the copy of a wait, in a child that was forked
            return
        notified = table.value(entry) == NOTIFIED
        table.remove(entry)
        self._words[self._NOTIFIEDS] = max(0, self._words[self._NOTIFIEDS] - notified)  # not always under the lock

    def notify(self, n: int = 1) -> None:
        """Wake up to `n` of those who wait, who go on when the lock is let go.

        Raises:
            procoro.errors.NotHeld: the lock is not held here.
        """
        n = arguments.count("n", n, 0)
        self._check()
        self._notify(n)

    def notify_all(self) -> None:
        """Wake all who wait, as `notify`."""
        self._check()
        self._notify(sys.maxsize)

    def _notify(self, n: int) -> None:
        woken = 0
        for entry in sorted(self._table.entries(), key=self._table.extra):  # the oldest first
            if woken < n and self._table.value(entry) == WAITS:
                if self._table.is_alive(entry):
                    self._words[self._NOTIFIEDS] += 1
                    self._table.set(entry, NOTIFIED)
                    woken += 1
                else:
                    self._table.remove(entry)
        if woken:
            ring_bell(self._bell)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._inner!r}>"


class Barrier(Guarded):
    """`parties` wait for each other. As `threading.Barrier`; a party that dies breaks it.

    A party is every process that has it, whether it has been here or not; one that ends well is missed by nobody.
    """

    _PARTIES, _TURN, _BROKEN, _MEMBERS = range(Guarded._FIRST, Guarded._FIRST + 4)
    _acting = 0  # the thread of this process in which the action runs
    _MEMBER = 1  # as an entry's value: who holds it; a higher one: who waits in that turn

    def __init__(self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None) -> None:
        parties = arguments.count("parties", parties, 1)
        arguments.callback("action", action)
        deadline_of(timeout)  # is it one?
        self._action, self._timeout = action, timeout
        super().__init__()
        self._words[self._PARTIES] = parties
        self._words[self._TURN] = self._MEMBER + 1

    def _prepare(self) -> None:
        super()._prepare()
        self._table = Table(self._words, self._MEMBERS)
        self._own.goodbye = None  # in a child that was forked, it is the parent's

    def _take_part(self) -> None:
        self._under_mutex(self._become_a_member)

    def _forked(self) -> None:
        super()._forked()
        # Who has the mutex may be in its action, and that may wait for us: then we join when we come.
        if self._file >= 0 and self._mutex.acquire_at_once():
            try:
                self._become_a_member()
            finally:
                self._mutex.release()

    def _become_a_member(self) -> None:
        self._own.goodbye = partial(self._table.remove, self._table.add(self._MEMBER))

    def _parts(self) -> tuple[Any, ...]:
        return self._action, self._timeout

    def _join_parts(self, *parts: Any) -> None:
        self._action, self._timeout = parts

    @property
    def parties(self) -> int:
        """How many it takes."""
        parties: int = self._words[self._PARTIES]
        return parties

    @property
    def n_waiting(self) -> int:
        """How many wait now."""
        return len(self._waiters())

    @property
    def broken(self) -> bool:
        """Is it of no use, until it is reset?"""
        return bool(self._words[self._BROKEN])

    def _waiters(self) -> list[int]:
        turn = self._words[self._TURN]
        return [entry for entry in self._table.entries() if self._table.value(entry) == turn]

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all have come: a number for each, from 0 to `parties` - 1.

        Raises:
            threading.BrokenBarrierError: a party has died, gave up after its `timeout` seconds (None: the barrier's),
                or called `abort`, or the `action` has failed.
        """
        return sleep_until(self._waiting(deadline_of(self._timeout if timeout is None else timeout)))

    async def await_(self, timeout: float | None = None) -> int:
        """As `wait`, to be awaited."""
        return await wait(self._waiting(deadline_of(self._timeout if timeout is None else timeout)))

    def _waiting(self, deadline: float | None) -> Waiting[int]:
        table = self._table
        with Sleeper(self._bell, deadline) as sleeper:
            yield from self._locking()
            try:
                if self._own.goodbye is None:
                    self._become_a_member()
                self._look()
                turn = self._words[self._TURN]
                number = len(self._waiters())
                if number + 1 == self.parties:
                    self._look(died=True)  # who has died waiting has not come
                    self._open_it(turn)
                    return number
                try:
                    entry = self._table.add(turn)
                except RuntimeError:  # the others would wait for us
                    self._break_now()
                    raise
                news = self._will_sleep()
            finally:
                self._mutex.release()
            try:
                # Most come soon. To watch all of them from the start would cost each as much as all others together.
                yield from self._sleeping(sleeper, news, SOON)
                while self._words[self._TURN] == turn:
                    died = bool(self._table.dead())  # asked outside the mutex, as in `Semaphore`
                    yield from self._locking()
                    try:
                        if self._words[self._TURN] == turn:
                            self._look(died, sleeper.late, entry)
                            news = self._will_sleep()
                    finally:
                        self._mutex.release()
                    if self._words[self._TURN] == turn and sleeper.watch(
                        set(map(self._table.pid, self._table.entries()))
                    ):
                        yield from self._sleeping(sleeper, news)
                if self._table.value(entry) == self._MEMBER:  # and others have come, and gone through
                    raise BrokenBarrierError(RESET)
            except BaseException as error:
                self._leave(table, entry, turn, interrupted=not isinstance(error, BrokenBarrierError))
                raise
            self._leave(table, entry, turn)
        return number

    def _leave(self, table: Table, entry: int, turn: int, interrupted: bool = False) -> None:
        """This party waits no more. `interrupted`: the others would wait for it, if that turn is not over."""
        if table is not self._table:  # this is the copy of a wait, in a child that was forked
            return
        if self._words[self._TURN] != turn:
            table.remove(entry)
            return
        try:
            self._lock()  # `reset` may be about to write there
        except BaseException:  # once more: who has the mutex, may be long in its action
            table.remove(entry)
            raise
        try:
            if interrupted and self._words[self._TURN] == turn == table.value(entry):
                self._break_now()
            table.remove(entry)
        finally:
            self._mutex.release()

    def _open_it(self, turn: int) -> None:
        """For the mutex's holder: all have come."""
        self._acting = threading.get_ident()
        try:
            if self._action is not None:
                self._action()
        except BaseException:
            self._break_now()
            raise
        finally:
            self._acting = 0
        if self.broken:  # by the action
            raise BrokenBarrierError("the barrier's action has called abort()")
        self._ring()
        self._words[self._TURN] = turn + 1

    def _look(self, died: bool = False, late: bool = False, entry: int = -1) -> None:
        """For the mutex's holder: raise if it is broken, or is to be. `died`: somebody may have."""
        if entry >= 0 and self._table.value(entry) == self._MEMBER:
            raise BrokenBarrierError(RESET)
        dead = self._table.dead() if died else []
        for one in dead:
            self._table.remove(one)
        if dead or late:
            self._break_now()
        if self.broken:
            raise BrokenBarrierError(
                "a party of the barrier has died" if dead else "the barrier is broken: a party died, gave up or failed"
            )

    def _break_now(self) -> None:
        self._ring()
        self._words[self._BROKEN] = 1

    def abort(self) -> None:
        """Break it: all who wait, or will, get a BrokenBarrierError."""
        self._under_mutex(self._break_now)

    def reset(self) -> None:
        """Begin anew: those who wait get a BrokenBarrierError, it is whole for those who come."""
        self._under_mutex(self._reset_now)

    def _under_mutex(self, change: Callable[[], None]) -> None:
        if self._acting == threading.get_ident():  # called by its action, which has the mutex
            change()
            return
        self._lock()
        try:
            change()
        finally:
            self._mutex.release()

    def _reset_now(self) -> None:
        for dead in self._table.dead():
            self._table.remove(dead)
        waiting = self._waiters()
        self._ring()
        for entry in waiting:
            self._table.set(entry, self._MEMBER)
        self._words[self._BROKEN] = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key:x} of {self.parties}{' broken' if self.broken else ''}>"
