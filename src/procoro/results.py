"""What the user holds of calls: a `Result` of one, a `MapResult` of a map, a `Stream` of many.

Outcomes arrive packed, in the crank's thread. They are unpacked in the thread that asks, once; an error while
unpacking belongs to that call and that asker.
"""

from __future__ import annotations

import io
import itertools
import logging
import operator
import pickle
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
)
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from procoro.calls import Fault, FaultKind, Run, WorkerEnd
from procoro.conductor.conductor import Conductor
from procoro.scheduler import messages as m
from procoro.wire import codec
from procoro.wire.blocks import Parts

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
logger = logging.getLogger("procoro")
OVER = (CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED)


class Context:
    """What all calls of one stream have in common, for the words of their errors."""

    __slots__ = ("conductor", "function", "memory_limit", "shape", "stream", "timeout")

    def __init__(
        self,
        conductor: Conductor,
        stream: int,
        function: str,
        shape: int,
        timeout: float | None,
        memory_limit: int | None,
    ) -> None:
        self.conductor = conductor
        self.stream = stream
        self.function = function
        self.shape = shape
        self.timeout = timeout
        self.memory_limit = memory_limit


class Outcomes:
    """Consecutive calls that have ended, unpacked when somebody asks."""

    __slots__ = ("_context", "_loaded", "_lock", "outcome")

    def __init__(self, outcome: Run | Fault, context: Context) -> None:
        self.outcome = outcome
        self._context = context
        self._lock = threading.Lock()
        self._loaded: list[tuple[bool, Any]] | None = None

    def values(self) -> list[Any] | None:
        """All values in one go; None if some call failed or does not unpickle: then ask `get` for each."""
        packed = getattr(self.outcome, "packed", None)
        if type(packed) is codec.Values:
            try:
                return packed.load()
            except Exception:
                return None
        return None

    def get(self, number: int) -> tuple[bool, Any]:
        """Whether the call returned, and its value or exception."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
        return self._loaded[number - self.outcome.first]

    def _load(self) -> list[tuple[bool, Any]]:
        outcome = self.outcome
        if isinstance(outcome, Fault):
            return [(False, error_of(outcome, self._context))]
        if isinstance(outcome.packed, codec.Failure):
            return [(False, exception_of(outcome, outcome.packed, self._context))]
        values = self.values()
        if values is not None:
            return [(True, value) for value in values]
        return [self._load_one(index) for index in range(outcome.count)]

    def _load_one(self, index: int) -> tuple[bool, Any]:
        packed: Any = self.outcome.packed  # type: ignore[union-attr]
        try:
            return True, packed.load_one(index)
        except Exception as cause:
            from procoro import errors

            number = self.outcome.first + index
            call = errors.FailedCall(number, self._context.function, self.outcome.attempt, "...", 0, "")
            error = errors.ResultNotUnpicklable(f"{call}: its result cannot be unpickled: {cause!r}")
            error.__cause__ = cause
            return False, errors.mark(error, call)


# ------------------------------------------------------------------------------------------ errors


def error_of(fault: Fault, context: Context) -> BaseException:
    """The error for a call that ended without an outcome of its own."""
    from procoro import errors

    end = fault.how if isinstance(fault.how, WorkerEnd) else WorkerEnd(0, None)
    call = errors.FailedCall(
        fault.first, context.function, fault.attempt, _short(fault.item, context.shape), end.pid, ""
    )
    return errors.mark(_fault_error(fault, end, call, context), call)


def _fault_error(fault: Fault, end: WorkerEnd, call: Any, context: Context) -> BaseException:
    from procoro import errors

    match fault.kind:
        case FaultKind.CANCELLED:
            return CancelledError()
        case FaultKind.TIMEOUT:
            return errors.CallTimeout(f"{call} ran longer than its timeout of {context.timeout} s")
        case FaultKind.MEMORY:
            return errors.MemoryLimitExceeded(
                f"{call} took its worker to {_size(end.memory)}, over the memory_limit of "
                f"{_size(context.memory_limit or 0)}"
            )
        case FaultKind.KILLED:
            return errors.CallKilled(f"{call} was ended by kill()")
        case FaultKind.TERMINATED:
            return errors.PoolTerminated(f"{context.function}: the pool was terminated before the call had ended")
        case FaultKind.GAVE_UP:
            return _gave_up(end, context)
    return errors.WorkerDied(str(call), end.pid, _exitcode(end), _hint(end))


def _gave_up(end: WorkerEnd, context: Context) -> BaseException:
    from procoro import errors

    if isinstance(end.failure, codec.Failure):
        data = end.failure.load()
        error: BaseException = errors.InitializerFailed(
            f"{context.function} was not run: the initializer raised {data.name}: {data.text}\n\n{data.trace}"
        )
        error.__cause__ = _rebuild(data)
        return error
    if end.reason and end.pid:
        return errors.InitializerFailed(f"{context.function} was not run: {end.reason}")
    if end.reason:
        return errors.WorkersKeepDying(f"{context.function} was not run: no worker can be started: {end.reason}")
    how = errors.describe_exit(_exitcode(end))
    return errors.WorkersKeepDying(
        f"{context.function} was given up: one worker after another died with nothing done between "
        f"(the last, {end.pid}, {how}{_hint(end)})"
    )


def _exitcode(end: WorkerEnd) -> int | None:
    import os

    return None if end.status is None else os.waitstatus_to_exitcode(end.status)


def _hint(end: WorkerEnd) -> str:
    return f", probably by the kernel for memory: {_size(end.memory)} when last seen" if end.oom else ""


def _size(nbytes: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if nbytes >= factor:
            return f"{nbytes / factor:.1f} {unit}"
    return f"{nbytes} bytes"


def _short(item: Any, shape: int) -> str:
    """An input, as it would stand between the brackets of the call; packed ones are unpacked if they can be."""
    try:
        if isinstance(item, Parts):
            item = _Viewer(io.BytesIO(item.body), buffers=item.buffers).load()
        elif isinstance(item, bytes) and item[:1] == b"\x80":
            item = _Viewer(io.BytesIO(item)).load()
    except Exception:
        return "..."
    return codec.short(item, shape)


class _Viewer(pickle.Unpickler):
    """Unpickles, to look at it, what has perhaps just ended a worker: runs no code of the user's."""

    def find_class(self, module: str, name: str) -> Any:
        """Plain data is rebuilt; of the rest, only its class is shown."""
        if module in PLAIN_MODULES:
            found = super().find_class(module, name)
            if isinstance(found, type):
                return found
        return type(name, (_Shown,), {})


PLAIN_MODULES = frozenset({"builtins", "collections", "datetime", "decimal", "fractions", "pathlib", "uuid"})


class _Shown:
    """Stands where an object would, in the words of an error."""

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def exception_of(run: Run, failure: codec.Failure, context: Context) -> BaseException:
    """The exception that a call raised, as it was; with the worker's traceback in its notes."""
    from procoro import errors

    data = failure.load()
    call = errors.FailedCall(run.first, context.function, run.attempt, data.input, data.pid, data.trace)
    error = _rebuild(data)
    try:
        error.add_note(f"\nraised in worker {data.pid} by {call}:\n\n{data.trace}")
    except Exception:
        pass
    return errors.mark(error, call)


def _rebuild(data: codec.ExceptionAsData) -> BaseException:
    error: BaseException | None = None
    if data.pickled is not None:
        try:
            error = pickle.loads(data.pickled)
        except Exception:
            error = None
    if not isinstance(error, BaseException):
        from procoro import errors

        error = errors.RemoteError(f"{data.name}: {data.text}")
        for note in data.notes:
            error.add_note(note)
    error.__cause__ = None if data.cause is None else _rebuild(data.cause)
    error.__context__ = None if data.context is None else _rebuild(data.context)
    error.__suppress_context__ = data.suppressed
    return error


# ------------------------------------------------------------------------------------------ one call


class Batch:
    """Calls that were submitted together: the sink of their stream."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.values: list[Any] = []
        self.results: list[Result[Any]] = []

    def deliver(self, outcome: Run | Fault) -> None:
        """As in `Sink`."""
        outcomes = Outcomes(outcome, self.context)
        loops: dict[Any, list[Callable[[], None]]] = {}
        for index in range(outcome.first, outcome.first + outcome.count):
            self.results[index]._settle(outcomes, loops)
        for loop, calls in loops.items():
            _wake_loop(loop, calls)

    def end(self, error: BaseException | None) -> None:
        """As in `Sink`."""

    def abort(self, ending: Fault | BaseException) -> None:
        """As in `Sink`."""
        kind, how = (ending.kind, ending.how) if isinstance(ending, Fault) else (FaultKind.TERMINATED, None)
        for index in range(len(self.results)):
            self.deliver(Fault(index, kind, how))


def _wake_loop(loop: Any, calls: list[Callable[[], None]]) -> None:
    """One wake-up of an event loop for all that has happened."""

    def run() -> None:
        for call in calls:
            call()

    try:
        loop.call_soon_threadsafe(run)
    except RuntimeError:
        pass  # it is closed: nobody waits any more


class Result(Future, Generic[T]):  # type: ignore[type-arg]
    """The outcome of one call, now or later: a `concurrent.futures.Future` that can also be awaited and killed.

    Its condition and lists are made when somebody looks at them (a condition costs 1.5 µs, and most results
    are never waited for).
    """

    _awaiting: list[tuple[Any, Callable[[], None]]]

    def __init__(self, batch: Batch, index: int) -> None:
        self._batch = batch
        self._index = index
        self._state = PENDING
        self._outcomes: Outcomes | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "_condition":
            return self.__dict__.setdefault(name, threading.Condition())
        if name in ("_waiters", "_done_callbacks", "_awaiting"):
            return self.__dict__.setdefault(name, [])
        if name in ("_result", "_exception"):
            return None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # ---- the crank's side

    def _settle(self, outcomes: Outcomes, loops: dict[Any, list[Callable[[], None]]]) -> None:
        if self._state in OVER:
            return
        cancelled = isinstance(outcomes.outcome, Fault) and outcomes.outcome.kind == FaultKind.CANCELLED
        self._outcomes = outcomes
        self._state = CANCELLED_AND_NOTIFIED if cancelled else FINISHED
        # Whoever makes a condition from here on finds us finished; who made it before is told.
        if "_condition" in self.__dict__:
            failed = isinstance(outcomes.outcome, Fault) or not outcomes.outcome.ok
            self._tell_waiters(cancelled, failed, loops)

    def _tell_waiters(self, cancelled: bool, failed: bool, loops: dict[Any, list[Callable[[], None]]]) -> None:
        with self._condition:
            for waiter in self._waiters:
                if cancelled:
                    waiter.add_cancelled(self)
                elif failed:
                    waiter.add_exception(self)  # what `wait(..., FIRST_EXCEPTION)` waits for
                else:
                    waiter.add_result(self)
            self._condition.notify_all()
            awaiting, self._awaiting = self._awaiting, []
        for loop, call in awaiting:
            loops.setdefault(loop, []).append(call)
        self._invoke_callbacks()

    def _invoke_callbacks(self) -> None:
        for callback in self._done_callbacks:
            call_back(callback, self)

    # ---- as in Future

    def result(self, timeout: float | None = None) -> T:
        """The value, or the call's exception. Waits up to `timeout` seconds (None: as long as it takes).

        Raises:
            procoro.errors.WaitTimeout: there is none yet; also a TimeoutError. The call goes on.
            CancelledError: it was cancelled.
        """
        ok, outcome = self._get(timeout)
        if ok:
            value: T = outcome
            return value
        try:
            raise outcome
        finally:
            del outcome, self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception that the call ended with, None if it returned. Waits, and raises, as `result`."""
        ok, outcome = self._get(timeout)
        if not ok and isinstance(outcome, CancelledError) and self.cancelled():
            raise outcome
        return None if ok else outcome

    def _get(self, timeout: float | None) -> tuple[bool, Any]:
        if self._state not in OVER:
            self._wait(timeout)
        if self._state not in OVER:
            from procoro import errors

            raise errors.WaitTimeout(f"{self._batch.context.function}: no result within {timeout} s")
        if self._outcomes is None:
            return False, CancelledError()
        return self._outcomes.get(self._index)

    def _wait(self, timeout: float | None) -> None:
        refuse_in_crank(self._batch.context.conductor)
        with self._condition:
            if self._state not in OVER:
                self._condition.wait_for(lambda: self._state in OVER, timeout)

    def cancel(self) -> bool:
        """Cancel the call if it has not begun. True if it is cancelled."""
        if self._state in OVER:
            return self._state != FINISHED
        context = self._batch.context
        if context.conductor.ask(context.stream, self._index, kill=False):
            self._wait(None)
        return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def running(self) -> bool:
        """Is a worker in this call now? Asks procoro's own thread."""
        context = self._batch.context
        return self._state not in OVER and context.conductor.is_running(context.stream, self._index)

    # ---- new

    def kill(self) -> bool:
        """End the call, also if it runs: it then ends with `CallKilled`. False if it had already ended."""
        if self._state in OVER:
            return False
        context = self._batch.context
        return context.conductor.ask(context.stream, self._index, kill=True)

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio  # 20 ms, and whoever awaits has it

        if self._state not in OVER:
            loop = asyncio.get_running_loop()
            waiting: asyncio.Future[None] = loop.create_future()
            with self._condition:
                if self._state in OVER:
                    waiting.set_result(None)
                else:
                    self._awaiting.append((loop, lambda: _resolve(waiting)))
            try:
                yield from waiting
            except asyncio.CancelledError:
                context = self._batch.context
                context.conductor.tell(m.Cancelled(0, context.stream, self._index))
                raise
        return self.result()

    # ---- as in AsyncResult

    def get(self, timeout: float | None = None) -> T:
        """As `result`."""
        return self.result(timeout)

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
        return self._get(0)[0]


def refuse_in_crank(conductor: Conductor) -> None:
    """A callback that waits for a call would wait for itself; so would a forked child, which has no crank."""
    if conductor.crank.forked:
        from procoro import errors

        raise errors.PoolClosed("this call belongs to the parent process: a child that was forked cannot wait for it")
    if threading.current_thread() is conductor.crank.thread:
        raise RuntimeError(
            "a callback waits for a call: callbacks run in procoro's own thread, which would have to deliver it. "
            "Start the wait in a thread, or add a callback to that call instead"
        )


def _resolve(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


# -------------------------------------------------------------------------------------------- a map


class MapResult(Generic[T]):
    """The outcomes of a whole map, in the order of its inputs: `multiprocessing`'s `MapResult`, awaitable."""

    def __init__(
        self,
        context: Context,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._context = context
        self._callback = callback
        self._error_callback = error_callback
        self._parts: dict[int, Outcomes] = {}
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._outcome: tuple[bool, Any] | None = None
        self._awaiting: list[tuple[Any, Callable[[], None]]] = []

    def deliver(self, outcome: Run | Fault) -> None:
        """As in `Sink`."""
        self._parts[outcome.first] = Outcomes(outcome, self._context)

    def end(self, error: BaseException | None) -> None:
        """As in `Sink`."""
        with self._lock:
            self._done.set()
            awaiting, self._awaiting = self._awaiting, []
        loops: dict[Any, list[Callable[[], None]]] = {}
        for loop, call in awaiting:
            loops.setdefault(loop, []).append(call)
        for loop, calls in loops.items():
            _wake_loop(loop, calls)
        if self._callback is not None or self._error_callback is not None:
            try:
                ok, outcome = self._open()
            except BaseException as raised:  # unpickling a value can raise anything, here in procoro's thread
                ok, outcome = False, raised
            call_back(self._callback if ok else self._error_callback, outcome)

    def abort(self, ending: Fault | BaseException) -> None:
        """As in `Sink`."""
        error = error_of(ending, self._context) if isinstance(ending, Fault) else ending
        with self._lock:
            self._outcome = False, error
        self.end(error)

    def _open(self) -> tuple[bool, Any]:
        with self._lock:
            if self._outcome is None:
                self._outcome = self._gather()
                self._parts.clear()
            return self._outcome

    def _gather(self) -> tuple[bool, Any]:
        values: list[Any] = []
        for first in sorted(self._parts):
            part = self._parts[first]
            if (loaded := part.values()) is not None:
                values += loaded
                continue
            for number in range(first, first + part.outcome.count):
                ok, outcome = part.get(number)
                if not ok:
                    return False, outcome
                values.append(outcome)
        return True, values

    def get(self, timeout: float | None = None) -> list[T]:
        """All values, or the exception of the first call that failed. Waits up to `timeout` seconds.

        Raises:
            procoro.errors.WaitTimeout: it is not over yet; also a TimeoutError. The map goes on.
        """
        if not self._done.is_set():
            refuse_in_crank(self._context.conductor)
        if not self._done.wait(timeout):
            from procoro import errors

            raise errors.WaitTimeout(f"{self._context.function}: the map is not over within {timeout} s")
        ok, outcome = self._open()
        if not ok:
            raise outcome
        values: list[T] = outcome
        return values

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the map is over, or for `timeout` seconds."""
        if not self._done.is_set():
            refuse_in_crank(self._context.conductor)
        self._done.wait(timeout)

    def ready(self) -> bool:
        """Is the map over?"""
        return self._done.is_set()

    def successful(self) -> bool:
        """Did every call return? Raises ValueError if the map is not over."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._open()[0]

    def __await__(self) -> Generator[Any, None, list[T]]:
        import asyncio

        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._done.is_set():
                waiting.set_result(None)
            else:
                self._awaiting.append((loop, lambda: _resolve(waiting)))
        yield from waiting
        return self.get()


def call_back(callback: Callable[[Any], object] | None, outcome: Any) -> None:
    """Call a callback of the user's; if it raises, that is logged and harms nothing."""
    if callback is None:
        return
    try:
        callback(outcome)
    except BaseException:  # also a SystemExit: it would end procoro's thread, and every wait would last for ever
        try:
            logger.exception("procoro: the callback %r raised", callback)
        except BaseException:  # so does a log handler: there is nobody left to tell
            pass


# ------------------------------------------------------------------------------------------ a stream


class Inbox:
    """Where the crank puts a stream's outcomes and the consumer takes them: the stream's sink."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.ready: deque[Outcomes] = deque()
        self.over = False
        self.error: BaseException | None = None
        self.abandoned = False
        self._arrived = threading.Condition()
        self._awaiting: list[tuple[Any, Callable[[], None]]] = []

    def deliver(self, outcome: Run | Fault) -> None:
        """As in `Sink`."""
        if not self.abandoned:
            self.ready.append(Outcomes(outcome, self.context))
            self._wake()

    def end(self, error: BaseException | None) -> None:
        """As in `Sink`."""
        self.error = error
        self.over = True
        self._wake()

    def abort(self, ending: Fault | BaseException) -> None:
        """As in `Sink`."""
        self.end(error_of(ending, self.context) if isinstance(ending, Fault) else ending)

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()
            awaiting, self._awaiting = self._awaiting, []
        for loop, call in awaiting:
            _wake_loop(loop, [call])

    def wait(self, timeout: float | None) -> bool:
        """Wait until something is ready or all is over."""
        with self._arrived:
            return self._arrived.wait_for(lambda: bool(self.ready) or self.over, timeout)

    async def await_arrival(self) -> None:
        """As `wait`, without blocking the event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        with self._arrived:
            if self.ready or self.over:
                return
            self._awaiting.append((loop, lambda: _resolve(waiting)))
        await waiting


class Stream(Generic[T]):
    """The values of an `imap`, one after another: for `for`, `async for` and `next`.

    A call that failed raises at its place; the stream can be continued behind it.

    A stream that nobody ever looked at runs to its end, as in `multiprocessing`. One that was left early (a
    `break`) and that nothing refers to any more pulls no more inputs, and closes the iterator that it pulled from;
    what it had pulled still runs.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._lock = threading.RLock()  # of what is in hand, while the next run is taken: many threads may ask
        self._values: Iterator[T] = iter([])
        self._failures: deque[tuple[bool, Any]] = deque()  # outcomes of a run that is not all values
        self._begun = False  # has anything been taken?
        self._taken: tuple[int, int] | None = None  # calls and bytes in hand, not yet accounted for

    def __iter__(self) -> Iterator[T]:
        return itertools.chain.from_iterable(iter(self._next_values, None))

    def _next_values(self) -> Iterator[T] | None:
        """An iterator over values that are here, waiting for some; None at the end. Raises a call's exception."""
        for value in self._values:
            return itertools.chain([value], self._values)
        while True:
            if self._advance():
                return self._values
            if (failure := self._next_failure()) is not None:
                return iter([self._opened(failure)])
            if self._ended():
                return None
            refuse_in_crank(self._inbox.context.conductor)
            self._inbox.wait(None)

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """The next value, or the exception of the next call. Waits up to `timeout` seconds (None: for ever).

        Raises:
            StopIteration: there are no more.
            procoro.errors.WaitTimeout: nothing has come; the stream can be asked again.
        """
        deadline = None
        while True:
            for value in self._values:
                return value
            if (failure := self._next_failure()) is not None:
                return self._opened(failure)
            if self._advance() or self._failures:
                continue
            if self._ended():
                raise StopIteration
            refuse_in_crank(self._inbox.context.conductor)
            if timeout is None:
                self._inbox.wait(None)
                continue
            deadline = deadline or time.monotonic() + timeout
            if not self._inbox.wait(max(0.0, deadline - time.monotonic())):
                from procoro import errors

                raise errors.WaitTimeout(f"{self._inbox.context.function}: no outcome within {timeout} s")

    def _advance(self) -> bool:
        """Take the next run of outcomes that has arrived; True if there are values in hand."""
        with self._lock:
            if operator.length_hint(self._values) or self._failures:  # another thread was faster
                return not self._failures
            self._account()
            try:
                outcomes = self._inbox.ready.popleft()
            except IndexError:
                return False
            self._begun = True
            run = outcomes.outcome
            self._taken = run.count, run.nbytes
            values = outcomes.values()
            if values is not None:
                self._values = iter(values)
                return True
            self._failures.extend(outcomes.get(number) for number in range(run.first, run.first + run.count))
            return False

    def _account(self) -> None:
        if self._taken is not None:
            context = self._inbox.context
            context.conductor.tell(m.Consumed(context.stream, *self._taken))
            self._taken = None

    def _next_failure(self) -> tuple[bool, Any] | None:
        try:
            return self._failures.popleft()
        except IndexError:
            return None

    def _opened(self, failure: tuple[bool, Any]) -> T:
        ok, outcome = failure
        if ok:
            value: T = outcome
            return value
        try:
            raise outcome
        finally:
            del failure, outcome

    def _ended(self) -> bool:
        """Is there nothing more? Raises, once, what the input iterator raised."""
        inbox = self._inbox
        if not inbox.over or inbox.ready:
            return False
        error, inbox.error = inbox.error, None
        if error is not None:
            raise error
        return True

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while True:
            for value in self._values:
                return value
            if (failure := self._next_failure()) is not None:
                return self._opened(failure)
            if self._advance() or self._failures:
                continue
            if self._ended():
                raise StopAsyncIteration
            await self._inbox.await_arrival()

    def close(self) -> None:
        """Pull no more inputs, and drop the calls that have not begun. What is running goes on to its end."""
        self._drain(drop=True)

    def drain(self) -> None:
        """Pull no more inputs; what has been pulled is still run and handed out."""
        self._drain(drop=False)

    def _drain(self, drop: bool) -> None:
        context = self._inbox.context
        context.conductor.tell(m.Drained(context.stream, drop))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        inbox = self._inbox
        if not inbox.over or inbox.ready or self._taken is not None:
            inbox.abandoned = True
            inbox.ready.clear()
            conductor, stream = inbox.context.conductor, inbox.context.stream
            if self._begun:
                conductor.tell(m.Drained(stream))
            conductor.tell(m.Detached(stream))
