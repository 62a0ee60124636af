"""The outcome of one call, as `concurrent.futures` hands it out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from procoro.results.outcomes import FORGOTTEN, OVER, Outcomes, Raised
from procoro.results.waiting import Waiting, call_back, refuse_in_crank, wake
from procoro.sleeping import Flag, Sleep

if TYPE_CHECKING:
    import asyncio

    from procoro.conductor.conductor import Conductor
    from procoro.results.batch import Batch

T = TypeVar("T")


class Condition(type(threading.RLock())):  # type: ignore[misc]
    """A result's, for `concurrent.futures`, which takes it and installs its waiters; nobody waits for it itself.

    C's lock: into a condition of Python's, an exception of a signal handler can come behind its `acquire`.
    """

    __slots__ = ()

    def notify_all(self) -> None:
        """Nobody waits."""


class Waiters(list[Any]):
    """Those of `concurrent.futures.wait` and `as_completed`, which install them while they hold all conditions.

    The crank sets their event. One of Python's has a condition, which a signal handler may leave locked.
    """

    __slots__ = ("conductor",)

    conductor: Conductor | None  # None: there is no pool behind the result

    def append(self, waiter: Any, /) -> None:
        """As in `list`. Raises RuntimeError where the wait would never end, as all others do."""
        if self.conductor is not None:
            refuse_in_crank(self.conductor)
        waiter.event = Flag()
        super().append(waiter)


class Result(Future, Generic[T]):  # type: ignore[type-arg]
    """The outcome of one call, now or later: a `concurrent.futures.Future` that can also be awaited and killed.

    Its condition and lists are made when somebody looks at them (a condition costs 1.5 µs, and most results
    are never waited for). Without a pool behind it, it is a plain `Future`.
    """

    # Not set in `__init__`, which each submit pays for
    _state = PENDING
    _outcomes: Outcomes | None = None  # ours, until it is opened
    _awaiting: list[Waiting] | None = None
    _watched = False  # has it a condition?
    _called_first: Callable[[Any], object] | None = None  # with the value, or `Raised`, before anybody can see it

    def __init__(self, batch: Batch | None = None, index: int = 0) -> None:
        self._batch = batch
        self._index = index

    def __getattr__(self, name: str) -> Any:
        if name == "_condition":
            if self._batch is None:
                return self.__dict__.setdefault(name, threading.Condition())
            condition, own = Condition(), self.__dict__
            with self._batch.looking:  # no calls in here: behind each, a signal handler may come, and wait for us
                self._watched = True
                if name not in own:
                    own[name] = condition
            return own[name]
        if name == "_waiters":
            waiters = Waiters()
            waiters.conductor = None if self._batch is None else self._batch.context.conductor
            return self.__dict__.setdefault(name, waiters)
        if name == "_done_callbacks":
            return self.__dict__.setdefault(name, [])
        if name in ("_result", "_exception"):
            self._open()
            return self.__dict__.get(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # ---- the crank's side

    def _settle(self, outcomes: Outcomes, looking: threading.RLock) -> list[Waiting] | None:
        """For the condition's holder: state and news in one hold, or who comes between is told of what it has seen.

        Who is to be woken; None if it was settled before. (`looking` is taken within, never around: who holds a
        condition may look for that of another result.)
        """
        if self._state in OVER:
            return None
        with looking:
            if outcomes.state == FINISHED:
                self._outcomes = outcomes
            self._state = outcomes.state
            awaiting, self._awaiting = self._awaiting or [], None
        for waiter in self._waiters:
            if self._state != FINISHED:
                waiter.add_cancelled(self)
            elif outcomes.failed:
                waiter.add_exception(self)  # what `wait(..., FIRST_EXCEPTION)` waits for
            else:
                waiter.add_result(self)
        return awaiting

    def _invoke_callbacks(self) -> None:
        for callback in self._done_callbacks:
            call_back(callback, self)

    # ---- as in Future

    def done(self) -> bool:
        """Has the call ended?"""
        return self._state in OVER

    def cancelled(self) -> bool:
        """Was it cancelled?"""
        return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def result(self, timeout: float | None = None) -> T:
        """The value, or the call's exception. Waits up to `timeout` seconds (None: as long as it takes).

        Raises:
            procoro.errors.WaitTimeout: there is none yet; also a TimeoutError. The call goes on.
            CancelledError: it was cancelled.
        """
        if self._state != FINISHED:
            self._wait_for_outcome(timeout)
        if self._outcomes is not None:
            self._open()
        error = self._exception
        if error is None:
            value: Any = self._result
            return value  # type: ignore[no-any-return]
        try:
            raise error
        finally:
            del error, self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception that the call ended with, None if it returned. Waits, and raises, as `result`."""
        self._wait_for_outcome(timeout)
        if self._outcomes is not None:
            self._open()
        error: BaseException | None = self._exception
        return error

    def _wait_for_outcome(self, timeout: float | None) -> None:
        """Wait until there is an outcome."""
        if self._state not in OVER and not self._wait(timeout):
            from procoro import errors

            raise errors.WaitTimeout(f"{self._name()}: no result within {round(timeout or 0, 3)} s")
        if self._state != FINISHED:
            raise CancelledError

    def _open(self) -> None:
        outcomes = self._outcomes
        if outcomes is None:
            return
        loaded, at = outcomes.load(), self._index - outcomes.outcome.first
        opened = loaded[at]
        if opened is not FORGOTTEN:
            # In this order: a Ctrl-C may come between, and another thread may be doing the same.
            self._result, self._exception = (None, opened.error) if type(opened) is Raised else (opened, None)
            self._outcomes = None
            loaded[at] = FORGOTTEN

    def _wait(self, timeout: float | None) -> bool:
        if self._batch is None:
            with self._condition:
                return self._condition.wait_for(lambda: self._state in OVER, timeout)
        refuse_in_crank(self._batch.context.conductor)
        sleep = Sleep()
        self._await(sleep)
        try:
            sleep.wait(timeout)
        finally:
            self._await_no_longer(sleep)
        return self._state in OVER

    def _name(self) -> str:
        return type(self).__name__ if self._batch is None else self._batch.context.function

    def cancel(self) -> bool:
        """Cancel the call if it has not begun. True if it is cancelled."""
        if self._batch is None:
            return super().cancel()
        if self._state not in OVER:
            context = self._batch.context
            if context.conductor.ask(context.stream, self._index, kill=False):
                self._wait(None)
        return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def running(self) -> bool:
        """Is a worker in this call now? Asks procoro's own thread."""
        if self._batch is None or self._state in OVER:
            return self._state == RUNNING
        context = self._batch.context
        return context.conductor.is_running(context.stream, self._index)

    # ---- new

    def kill(self) -> bool:
        """End the call, also if it runs: it then ends with `CallKilled`. False if it had already ended.

        One that ends by itself at this very moment, or whose model asks it to end and gets a value, keeps that.
        """
        if self._batch is None:
            return self.cancel()
        if self._state in OVER:
            return False
        context = self._batch.context
        return context.conductor.ask(context.stream, self._index, kill=True)

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio  # 20 ms, and whoever awaits has it

        if self._batch is None:
            value: T = yield from asyncio.wrap_future(self)
            return value
        if self._state not in OVER:
            refuse_in_crank(self._batch.context.conductor)
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._await(waiting)
            try:
                yield from waiting
            except BaseException as error:
                self._await_no_longer(waiting)
                if isinstance(error, asyncio.CancelledError):
                    context = self._batch.context
                    context.conductor.cancel_soon(context.stream, self._index)
                raise
        return self.result()

    def _call_first(self, callback: Callable[[Any], object]) -> None:
        """Call it with the value, or `Raised`, before anybody can see that the call has ended; at once, if it has."""
        with self._condition:
            if self._state not in OVER:
                self._called_first = callback
                return
        error = CancelledError() if self._state != FINISHED else self.exception()
        callback(self.result() if error is None else Raised(error))

    def _await(self, waiting: Waiting) -> None:
        """Let `waiting` end when the call has."""
        assert self._batch is not None
        with self._batch.looking:
            over = self._state in OVER
            if not over:
                self._awaiting = [waiting] if self._awaiting is None else [*self._awaiting, waiting]
        if over:
            wake([waiting])

    def _await_no_longer(self, waiting: Waiting) -> None:
        if self._state not in OVER and waiting in (awaiting := self._awaiting or []):
            awaiting.remove(waiting)

    def __reduce__(self) -> Any:
        raise TypeError("a Result lives in one process: pass its value, `get()`, instead")

    # ---- as in AsyncResult

    get = result

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call has ended, or for `timeout` seconds."""
        if self._state not in OVER:
            self._wait(timeout)

    def ready(self) -> bool:
        """Has the call ended?"""
        return self._state in OVER

    def successful(self) -> bool:
        """Did the call return? Raises ValueError if it has not ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._state == FINISHED and self.exception() is None


# Python learns from the first instances which attributes there are, and keeps these beside each instance. Any other
# that is set gives that instance a dict of its own: 0.4 µs a result, and one more object for the collector to visit.
_first: Result[None] = Result()
_first._state = PENDING
_first._outcomes = _first._awaiting = _first._result = _first._exception = None
del _first


def kill_soon(result: Result[Any]) -> None:
    """As `Result.kill`, without waiting for what comes of it."""
    if result._batch is not None:
        context = result._batch.context
        context.conductor.cancel_soon(context.stream, result._index, kill=True)
