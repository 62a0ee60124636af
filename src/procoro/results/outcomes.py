"""Outcomes as they come, packed; unpacked when somebody asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED
from typing import Any

from procoro.calls import Fault, FaultKind, Run
from procoro.results.failures import Context, error_of, exception_of, unpickling_error
from procoro.wire.exceptions import Failure
from procoro.wire.values import Numbers, Values

OVER = (CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED)  # states of a result that has one
FORGOTTEN = object()  # stands where an outcome was that its result has taken


class Raised:
    """What the call ended with instead of a value."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Outcomes:
    """Consecutive calls that have ended, unpacked when somebody asks."""

    __slots__ = ("_context", "_loaded", "_lock", "failed", "outcome", "state")

    def __init__(self, outcome: Run | Fault, context: Context) -> None:
        self.outcome = outcome
        self.failed = isinstance(outcome, Fault) or not outcome.ok
        cancelled = isinstance(outcome, Fault) and outcome.kind == FaultKind.CANCELLED
        self.state = CANCELLED_AND_NOTIFIED if cancelled else FINISHED  # of the results that these become
        self._context = context
        self._lock = threading.RLock()  # unpickling runs the user's code, which may ask for a neighbour
        self._loaded: list[Any] | None = None

    def values(self) -> list[Any] | None:
        """All values in one go; None if some call failed or does not unpickle: then `get` each."""
        packed = getattr(self.outcome, "packed", None)
        if not isinstance(packed, (Values, Numbers)):
            return None
        values = _unpickled(packed.load)
        return None if isinstance(values, Raised) else values

    def get(self, number: int) -> Any:
        """The value that the call returned, or `Raised`."""
        return self.load()[number - self.outcome.first]

    def load(self) -> list[Any]:
        """All values; `Raised` where there is none. Who takes one puts `FORGOTTEN` there: it is kept no longer."""
        if self._loaded is None:
            with self._lock:
                if self._loaded is None:
                    self._loaded = self._load()
        return self._loaded

    def _load(self) -> list[Any]:
        outcome = self.outcome
        if isinstance(outcome, Fault):
            return [Raised(error_of(outcome, self._context))]
        if isinstance(outcome.packed, Failure):
            return [Raised(exception_of(outcome, outcome.packed, self._context))]
        values = self.values()
        if values is not None:
            return values
        return [self._load_one(index) for index in range(outcome.count)]

    def _load_one(self, index: int) -> Any:
        packed: Any = self.outcome.packed  # type: ignore[union-attr]
        value = _unpickled(lambda: packed.load_one(index))
        if not isinstance(value, Raised):
            return value
        return Raised(unpickling_error(self.outcome.first + index, self.outcome.attempt, value.error, self._context))


def _unpickled(load: Callable[[], Any]) -> Any:
    """What this gives; `Raised` with the exception that it raises each time.

    One that does not come again was not the data's: a signal handler's, or a time-out's of gevent. It goes on its way.
    """
    try:
        return load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        try:
            load()
        except KeyboardInterrupt:
            raise
        except BaseException:
            return Raised(error)
        raise
