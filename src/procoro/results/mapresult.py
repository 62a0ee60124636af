"""The outcomes of a whole map, as `multiprocessing` hands them out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from procoro.calls import Fault, Run
from procoro.results.failures import Context, end_of
from procoro.results.outcomes import Outcomes, Raised
from procoro.results.waiting import call_back, refuse_in_crank, wake
from procoro.sleeping import Flag

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Parts:
    """Where the crank puts a map's outcomes: the map's sink."""

    def __init__(
        self,
        context: Context,
        callback: Callable[[list[Any]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self.context = context
        self.done = Flag()
        self.awaiting: list[asyncio.Future[None]] = []
        self._callback = callback
        self._error_callback = error_callback
        self._parts: dict[int, Outcomes] = {}
        self._lock = threading.RLock()
        self._outcome: tuple[bool, Any] | None = None
        self._end: Fault | BaseException | None = None  # why there is more that was not run

    def deliver(self, outcome: Run | Fault) -> None:
        """As in `Sink`."""
        self._parts[outcome.first] = Outcomes(outcome, self.context)

    def end(self, error: Fault | BaseException | None) -> None:
        """As in `Sink`."""
        self._end = error
        opened: tuple[bool, Any] | None = None
        if self._callback is not None or self._error_callback is not None:
            try:  # before anybody is told: we are not to wait here for one who unpickles, and waits for us
                opened = self.open()
            except BaseException as raised:  # unpickling a value can raise anything, here in procoro's thread
                opened = False, raised
        if opened is not None:  # first, as in `multiprocessing`: who has waited finds what the callback has done
            ok, outcome = opened
            call_back(self._callback if ok else self._error_callback, outcome)
        self.done.set()
        awaiting, self.awaiting = self.awaiting, []
        wake(awaiting)

    def abort(self, ending: Fault | BaseException) -> None:
        """As in `Sink`."""
        self._parts.clear()
        self.end(ending)

    def open(self) -> tuple[bool, Any]:
        """Did every call return? And all values, or the exception of the first one that did not."""
        with self._lock:
            if self._outcome is None:
                outcome = self._gather(self._parts.copy())
                if self._outcome is None:
                    self._outcome = outcome
                    self._parts.clear()
            return self._outcome

    def _gather(self, parts: dict[int, Outcomes]) -> tuple[bool, Any]:
        values: list[Any] = []
        for first in sorted(parts):
            part = parts[first]
            if (loaded := part.values()) is not None:
                values += loaded
                continue
            for number in range(first, first + part.outcome.count):
                value = part.get(number)
                if isinstance(value, Raised):
                    return False, value.error
                values.append(value)
        if self._end is not None:
            return False, end_of(self._end, self.context) if isinstance(self._end, Fault) else self._end
        return True, values


class MapResult(Generic[T]):
    """The outcomes of a whole map, in the order of its inputs: `multiprocessing`'s `MapResult`, awaitable."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._done = parts.done

    def get(self, timeout: float | None = None) -> list[T]:
        """All values, or the exception of the first call that failed. Waits up to `timeout` seconds.

        Raises:
            procoro.errors.WaitTimeout: it is not over yet; also a TimeoutError. The map goes on.
        """
        self.wait(timeout)
        if not self._done.is_set():
            from procoro import errors

            raise errors.WaitTimeout(f"{self._parts.context.function}: the map is not over within {timeout} s")
        ok, outcome = self._parts.open()
        if not ok:
            raise outcome
        values: list[T] = outcome
        return values

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the map is over, or for `timeout` seconds."""
        self._refuse_to_wait_in_crank()
        self._done.wait(timeout)

    def ready(self) -> bool:
        """Is the map over?"""
        return self._done.is_set()

    def successful(self) -> bool:
        """Did every call return? Raises ValueError if the map is not over."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._parts.open()[0]

    def __await__(self) -> Generator[Any, None, list[T]]:
        import asyncio

        self._refuse_to_wait_in_crank()
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parts.awaiting.append(waiting)
        try:
            if not self._done.is_set():  # else it ended before it could know of us
                yield from waiting
        finally:
            with suppress(ValueError):  # it has been woken
                self._parts.awaiting.remove(waiting)
        return self.get()

    def _refuse_to_wait_in_crank(self) -> None:
        if not self._done.is_set():
            refuse_in_crank(self._parts.context.conductor)

    def __reduce__(self) -> Any:
        raise TypeError("a MapResult lives in one process: pass its values, `get()`, instead")
