"""Calls that were submitted one by one, and travel together."""

from __future__ import annotations

import threading
from concurrent.futures._base import FINISHED
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from procoro.calls import Fault, FaultKind, Run
from procoro.results.failures import Context
from procoro.results.outcomes import OVER, Outcomes
from procoro.results.waiting import Waiting, call_back, wake

if TYPE_CHECKING:
    from procoro.results.result import Result
    from procoro.wire.library import Entry

# What calls that travel together have in common: their function; or if it travels with each, its name, and `many`
Kind: TypeAlias = "Entry | tuple[str, bool]"
NOTHING = "", False

AGAIN, LATER = 0.001, 0.064  # seconds until a result is settled whose condition was held, twice as long each time
TRIES = 50  # in 3 s; then who holds it has left it so: a Ctrl-C between two steps of `concurrent.futures.wait`


class Batch:
    """Calls that were submitted together: the sink of their stream."""

    def __init__(self, context: Context, kind: Kind, many: bool) -> None:
        self.context = context
        self.kind = kind
        self.many = many  # may they run beside each other?
        self.announced = False  # the crank has been asked to fetch them
        self.values: list[Any] = []
        self.results: list[Result[Any]] = []
        self.taken: int | None = None  # how many of them travel; None: more may come
        self.looking = threading.RLock()  # for a short look: is there a condition, does anybody wait?

    def take(self) -> list[Any]:
        """Close the batch: what has come so far travels; what is submitted later opens another."""
        self.taken = len(self.results)
        values, self.values = self.values[: self.taken], []
        return values

    def deliver(self, outcome: Run | Fault) -> None:
        """As in `Sink`."""
        outcomes = Outcomes(outcome, self.context)
        results = self.results[outcome.first : outcome.first + outcome.count]
        awaiting: list[Waiting] = []
        watched: list[Result[Any]] = []
        state = outcomes.state
        with self.looking:
            for result in results:
                if result._watched:
                    watched.append(result)
                elif result._state not in OVER:
                    if state == FINISHED:
                        result._outcomes = outcomes
                    result._state = state
                    if result._awaiting is not None:
                        awaiting += result._awaiting
                        result._awaiting = None
        wake(awaiting)
        for result in watched:
            self._settle_watched(result, outcomes)

    def _settle_watched(self, result: Result[Any], outcomes: Outcomes, tried: int = 0) -> None:
        # Not waiting for the condition: who holds it may hold it for ever, and all pools would stand still.
        held = result._condition.acquire(blocking=False)
        if not held and tried < TRIES:
            again = partial(self._settle_watched, result, outcomes, tried + 1)
            self.context.conductor.crank.call_later(min(AGAIN * 2**tried, LATER), again)
            return
        try:
            if (first := result._called_first) is not None:
                result._called_first = None
                awaiting = None
            else:
                awaiting = result._settle(outcomes, self.looking)
        finally:
            if held:
                result._condition.release()
        if first is not None:
            call_back(lambda come: first(come.get(result._index)), outcomes)
            self._settle_watched(result, outcomes)
        elif awaiting is not None:
            wake(awaiting)
            result._invoke_callbacks()

    def end(self, error: Fault | BaseException | None) -> None:
        """As in `Sink`."""
        self.kind = NOTHING  # who keeps a result keeps no function, nor what that holds
        self.results.clear()  # they refer to us: in a circle, their values would wait for the collector

    def abort(self, ending: Fault | BaseException) -> None:
        """As in `Sink`."""
        kind, how = (ending.kind, ending.how) if isinstance(ending, Fault) else (FaultKind.TERMINATED, None)
        for index in range(len(self.results)):
            self.deliver(Fault(index, kind, how))
        self.end(None)
