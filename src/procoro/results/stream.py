"""The values of an `imap`, one after another."""

from __future__ import annotations

import itertools
import operator
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from procoro.calls import Fault, Run
from procoro.kernel import importing
from procoro.results.failures import Context, end_of
from procoro.results.outcomes import Outcomes, Raised
from procoro.results.waiting import refuse_in_crank, wake
from procoro.scheduler import messages as m
from procoro.sleeping import Sleepers

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Inbox:
    """Where the crank puts a stream's outcomes and the consumer takes them: the stream's sink."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.ready: deque[Outcomes] = deque()
        self.over = False
        self.error: BaseException | None = None
        self.abandoned = False
        self._sleepers = Sleepers()
        self._awaiting: list[asyncio.Future[None]] = []

    def deliver(self, outcome: Run | Fault) -> None:
        """As in `Sink`."""
        if not self.abandoned:
            self.ready.append(Outcomes(outcome, self.context))
            self._wake()

    def end(self, error: Fault | BaseException | None) -> None:
        """As in `Sink`."""
        self.error = end_of(error, self.context) if isinstance(error, Fault) else error
        self.over = True
        self._wake()

    def abort(self, ending: Fault | BaseException) -> None:
        """As in `Sink`."""
        self.end(ending)

    def _wake(self) -> None:
        self._sleepers.wake()
        awaiting, self._awaiting = self._awaiting, []
        wake(awaiting)

    def wait(self, timeout: float | None) -> bool:
        """Wait until something is ready or all is over."""
        return self._sleepers.sleep(lambda: bool(self.ready) or self.over, timeout)

    async def await_arrival(self) -> None:
        """As `wait`, without blocking the event loop."""
        import asyncio

        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaiting.append(waiting)
        try:
            if not (self.ready or self.over):  # else it came before `_wake` could know of us
                await waiting
        finally:
            with suppress(ValueError):  # it has been woken
                self._awaiting.remove(waiting)


class Stream(Generic[T]):
    """The values of an `imap`, one after another: for `for`, `async for` and `next`.

    A call that failed raises at its place; the stream can be continued behind it.

    A stream that nobody ever looked at runs to its end, as in `multiprocessing`. One that was left early (a
    `break`) and that nothing refers to any more pulls no more inputs, and closes the iterator that it pulled from;
    what it had pulled still runs.
    """

    # Also of one whose making was broken off
    inbox: Inbox  # where its outcomes come
    _begun = False
    _taken: tuple[int, int] | None = None

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self._lock = threading.RLock()  # of what is in hand, while the next run is taken: many threads may ask
        self._values: Iterator[T] = iter([])
        self._failures: deque[tuple[T | Raised]] = deque()  # outcomes of a run that is not all values
        self._begun = False  # has anything been taken?
        self._taken = None  # calls and bytes in hand, not yet accounted for

    def __iter__(self) -> Iterator[T]:
        return itertools.chain.from_iterable(_Runs(self))  # a loop in C, in two thirds of the time of `next`

    def _in_hand(self) -> Iterator[T] | None:
        """The values that are here, or else what waits for some; None at the end. Raises nothing itself."""
        if operator.length_hint(self._values) or self._advance():
            return self._values
        inbox = self.inbox
        if inbox.over and not inbox.ready and not self._failures and inbox.error is None:
            return None
        return _Coming(self)

    def _next_values(self, timeout: float | None = None) -> Iterator[T] | None:
        """The values that are here, waiting for some if need be; None at the end. Raises as `next`."""
        deadline = None
        while True:
            if operator.length_hint(self._values) or self._advance():
                return self._values
            if (failure := self._next_failure()) is not None:
                return iter([self._opened(failure)])
            if self._ended():
                return None
            refuse_in_crank(self.inbox.context.conductor)
            if timeout is None:
                self.inbox.wait(None)
                continue
            deadline = deadline or time.monotonic() + timeout
            if not self.inbox.wait(max(0.0, deadline - time.monotonic())):
                from procoro import errors

                raise errors.WaitTimeout(f"{self.inbox.context.function}: no outcome within {round(timeout, 3)} s")

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """The next value, or the exception of the next call. Waits up to `timeout` seconds (None: for ever).

        Raises:
            StopIteration: there are no more.
            procoro.errors.WaitTimeout: nothing has come; the stream can be asked again.
        """
        for value in self._values:
            return value
        while (values := self._next_values(timeout)) is not None:
            for value in values:  # none, if another thread was faster
                return value
        raise StopIteration

    def _advance(self) -> bool:
        """Take the next run of outcomes that has arrived; True if there are values in hand."""
        with self._lock:
            if operator.length_hint(self._values) or self._failures:  # another thread was faster
                return not self._failures
            self._account()
            ready = self.inbox.ready
            if not ready:
                return False
            outcomes = ready[0]
            run = outcomes.outcome
            loaded = outcomes.values()
            values: Iterator[T] = iter(loaded or ())
            failures = self._failures
            if loaded is None:
                failures = deque((outcomes.get(number),) for number in range(run.first, run.first + run.count))
            if not ready or ready[0] is not outcomes:  # a signal handler, while we unpickled it, was faster
                return self._advance()
            taken = run.count, run.nbytes
            # No calls from here on: behind each, a signal handler may raise, and what is half taken would be lost.
            self._begun = True
            self._taken = taken
            self._values = values
            self._failures = failures
            del ready[0]
            return loaded is not None

    def _account(self) -> None:
        if self._taken is not None:
            context = self.inbox.context
            context.conductor.tell(m.Consumed(context.stream, *self._taken))
            self._taken = None

    def _next_failure(self) -> tuple[T | Raised] | None:
        try:
            return self._failures.popleft()
        except IndexError:
            return None

    def _opened(self, failure: tuple[T | Raised]) -> T:
        (opened,) = failure
        if not isinstance(opened, Raised):
            return opened
        outcome = opened.error
        if isinstance(outcome, (StopIteration, StopAsyncIteration)):  # as PEP 479: it would end the loop in silence
            with importing:
                from procoro.errors import failed_call, mark

            error = RuntimeError(f"{self.inbox.context.function} raised {type(outcome).__name__}")
            if (call := failed_call(outcome)) is not None:
                mark(error, call)
            raise error from outcome
        try:
            raise outcome
        finally:
            del failure, opened, outcome

    def _ended(self) -> bool:
        """Is there nothing more? Raises, once, what the input iterator raised, or why it was not pulled to its end."""
        inbox = self.inbox
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
            refuse_in_crank(self.inbox.context.conductor)
            await self.inbox.await_arrival()

    def close(self) -> None:
        """Pull no more inputs, and drop the calls that have not begun. What is running goes on to its end."""
        self._drain(drop=True)

    def drain(self) -> None:
        """Pull no more inputs; what has been pulled is still run and handed out."""
        self._drain(drop=False)

    def _drain(self, drop: bool) -> None:
        context = self.inbox.context
        context.conductor.tell(m.DrainAsked(context.stream, drop))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a stream of results lives in one process: pass its values instead")

    def __del__(self) -> None:
        inbox = getattr(self, "inbox", None)
        if inbox is None or not inbox.context.stream:  # a Ctrl-C came too early
            return
        if not inbox.over or inbox.ready or self._taken is not None:
            inbox.abandoned = True
            inbox.ready.clear()
            conductor, stream = inbox.context.conductor, inbox.context.stream
            if self._begun:
                conductor.tell(m.DrainAsked(stream))
            conductor.tell(m.Detached(stream))


class _Runs(Generic[T]):
    """What an iterator over a stream chains: one run of values after another.

    What raises is one of those: behind that, `itertools.chain` goes on; a source that raises it would drop, and with it
    all that still comes. (No generators: several threads may have the iterator.)
    """

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Iterator[T]:
        values = self._stream._in_hand()
        if values is None:
            raise StopIteration
        return values


class _Coming(Generic[T]):
    """In the place of a run that is not here: waits for it, or gives an outcome of a run with failures."""

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        values = self._stream._next_values()
        if values is None or values is self._stream._values:  # the chain comes to it next
            raise StopIteration
        return next(values)
