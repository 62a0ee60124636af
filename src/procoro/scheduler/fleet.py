"""The life of workers: starting, ready, retiring, dying; and how fast those that die are replaced.

Restart intensity as in an Erlang supervisor: a worker that dies is replaced at once, but many deaths with no
outcome between them slow the replacing down, and workers that die before they are ready end the pool.
"""

from __future__ import annotations

from collections.abc import Iterator

from procoro.calls import FaultKind
from procoro.scheduler.messages import CancelAsked
from procoro.scheduler.spans import Crowd, Sent

# At most record.SLOTS, see tests/test_limits.py: one that it runs, one that waits at hand
WINDOW = 2  # spans that a worker may hold
START_FAILURES = 30  # points, collected in a row, at which the pool gives up:
FAILED_TO_START = 10  # for a worker that left before it was ready, or could not be started
HUNG_IN_START = 30  # for one that had to be ended because it did not get ready
KILLED_IN_START = 1  # for one that was killed: that may have been bad luck
CALM_DEATHS = 20  # in a row with no outcome between, that are still replaced at once
RESTART_DELAY = 0.001  # seconds, for each death beyond that
LONGEST_DELAY = 0.01
START_DELAY = 0.05  # seconds, after a worker that did not get ready


class Worker:
    """What the scheduler knows of a worker."""

    __slots__ = (
        "apart",
        "asked",
        "being_taken_back",
        "calls",
        "dead",
        "held",
        "kill_wanted",
        "killed_for",
        "leaving",
        "loaded",
        "many",
        "number",
        "patience",
        "questions",
        "ready",
        "since",
        "span_since",
        "spans",
        "stuck",
        "to_end",
        "waiting",
    )

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.ready = False
        self.dead = False  # how it came to its end is still to be told
        self.leaving = False  # it gets no more calls, and another takes its place
        self.killed_for: str | None = None  # the FaultKind for which it was killed
        self.spans: dict[int, Sent] = {}  # by number, in the order in which they were sent
        self.calls = 0  # ever sent and not taken back
        self.since = now  # when the call that it is in was first seen to be running
        self.span_since = now  # likewise, for the span
        self.patience = 0.0  # seconds that the call may run from then on, before what stands behind it is taken back
        self.loaded = 0  # the span whose function it has loaded
        self.stuck = False  # in a long call: gets no more until it moves
        self.being_taken_back = False  # its calls are being taken back: gets no more until that is answered
        # What is decided once no other call can be hit by it, that is, when all behind has been taken back:
        self.to_end: tuple[int, int, str] | None = None  # the call (stream, number) to end, and why
        self.questions: list[CancelAsked] = []
        self.many = False  # does it run the calls that it holds beside each other? Then:
        self.held = 0  # calls without an outcome
        self.waiting = 0  # of those, not begun
        self.apart = False  # it runs one call, which is to be alone
        self.asked: dict[tuple[int, int], str] = {}  # calls (span, index) that were asked to end, and why
        # Why it is to be killed when what waits in it has been taken back, and for which call:
        self.kill_wanted: list[tuple[tuple[int, int] | None, str]] = []

    def current(self) -> Sent | None:
        """The span with the call that is running, or next to run."""
        for sent in self.spans.values():
            if sent.recorded < sent.limit:
                return sent
        return None

    def crowds(self) -> Iterator[Crowd]:
        """The spans whose calls run beside each other; the last one first."""
        for sent in reversed(self.spans.values()):
            if isinstance(sent, Crowd):
                yield sent

    def is_in(self, stream: int, number: int) -> bool:
        """Is this the call that is running, or next to run?"""
        sent = self.current()
        return sent is not None and sent.piece.stream == stream and sent.piece.first + sent.recorded == number


class Fleet:
    """All workers of a pool, and when to start more."""

    def __init__(self, size: int, most_calls: int | None) -> None:
        self.size = size
        self.most_calls = most_calls  # maxtasksperchild
        self.workers: dict[int, Worker] = {}
        self.missing = size  # how many workers there are too few; those that are leaving do not count
        self.start_failures = 0  # see START_FAILURES
        self.deaths = 0  # in a row, with no outcome between them
        self.not_before = 0.0  # no worker is started earlier
        self.reserved: Worker | None = None  # it gets no more until it is empty: a call is to be alone in it
        self._last = 0

    def start(self, now: float) -> Worker:
        """Write down a new worker."""
        self._last += 1
        self.missing -= 1
        worker = self.workers[self._last] = Worker(self._last, now)
        return worker

    def dismiss(self, worker: Worker) -> None:
        """A worker is to leave, or to be ended."""
        if not worker.leaving:
            worker.leaving = True
            self.missing += 1

    def room(self, depth: int) -> Iterator[Worker]:
        """Workers that hold `depth` spans and may be given another."""
        for worker in self.workers.values():
            kept = depth and (worker.many or worker is self.reserved)
            if len(worker.spans) == depth and not kept and self.is_open(worker):
                yield worker

    def is_open(self, worker: Worker) -> bool:
        """May this worker be given calls?"""
        return worker.ready and not (worker.leaving or worker.dead or worker.being_taken_back or worker.stuck)

    def capacity(self, worker: Worker) -> int:
        """How many more calls a worker may be given before it is recycled."""
        return 1 << 30 if self.most_calls is None else self.most_calls - worker.calls

    def lose(self, worker: Worker, killed: bool, now: float) -> None:
        """A worker is gone: decide how soon the next one may start."""
        del self.workers[worker.number]
        self.missing += not worker.leaving
        if not worker.ready and worker.killed_for == FaultKind.TIMEOUT:
            self.start_failures += HUNG_IN_START
        elif worker.leaving:
            pass  # as we wanted
        elif not worker.ready:
            self.start_failures += KILLED_IN_START if killed else FAILED_TO_START
            self.not_before = now + START_DELAY
        else:
            self.deaths += 1
            if self.deaths > CALM_DEATHS:
                self.not_before = now + min((self.deaths - CALM_DEATHS) * RESTART_DELAY, LONGEST_DELAY)

    def cannot_start(self) -> bool:
        """Have too many failed to get ready, and is there no other that calls can run in?"""
        return self.start_failures >= START_FAILURES and not any(worker.ready for worker in self.workers.values())
