"""A simulated worker: what it really does, seen by nobody until its record is read."""

from __future__ import annotations

import random
from collections import deque
from enum import Enum, auto

from procoro.calls import Run
from tests.simulation.crowd import NEVER, OUTCOME_BYTES, Many
from tests.simulation.truth import Truth

LONG_LOADING = (2.0, 20.0)  # seconds: so long that others are ended meanwhile; longer than is granted


class Habits:
    """How the calls of a stream behave."""

    __slots__ = (
        "blocking",
        "deadly",
        "deadly_to_load",
        "failing",
        "hanging",
        "loading",
        "seconds",
        "slow_to_load",
        "strays",
        "stubborn",
    )

    def __init__(self, rng: random.Random, timeout: float | None, cruel: float, many: bool = False) -> None:
        self.seconds = rng.choice([5e-5, 2e-4, 1e-3, 5e-3, 0.05])  # mean run time
        self.strays = rng.choice([0.0, 0.0, 0.02])  # share of calls that run far longer
        self.failing = rng.choice([0.0, 0.1, 0.5])
        self.deadly = rng.choice([0.0, 0.05, 0.3]) * cruel
        self.hanging = 0.0 if timeout is None else rng.choice([0.0, 0.05, 0.3])
        self.loading = rng.choice([0.0, 0.0, 1e-4, 0.05])
        # Of calls that run beside others:
        self.blocking = rng.choice([0.0, 0.0, 0.02, 0.3]) if many else 0.0  # share that does not yield
        self.stubborn = rng.choice([0.0, 0.0, 0.3, 1.0]) if many else 0.0  # share that does not end when asked to
        self.slow_to_load = rng.choice([0.0, 0.0, 0.0, 0.3]) if many else 0.0  # share of workers that take long
        self.deadly_to_load = many and rng.random() < 0.1 * cruel  # to every worker

    def draw(self, rng: random.Random) -> tuple[str, float]:
        """How a call goes that now begins, and how long it takes."""
        chance = rng.random()
        if chance < self.deadly:
            return "dies", self.seconds * rng.random()
        if chance < self.deadly + self.hanging:
            return "ok", 1000.0
        seconds = self.seconds * rng.uniform(0.2, 1.8)
        if self.strays and rng.random() < self.strays:
            seconds = rng.uniform(0.05, 60.0)
        return ("failed" if rng.random() < self.failing else "ok"), seconds

    def draw_loading(self, rng: random.Random) -> float:
        """Seconds to load the function of a span."""
        slow = self.slow_to_load and rng.random() < self.slow_to_load
        return rng.choice(LONG_LOADING) if slow else self.loading


class Span:
    """Calls that were sent to the worker, and the cells in which their outcomes stand."""

    __slots__ = ("count", "done", "end", "first", "habits", "number", "seen", "stream")

    def __init__(self, number: int, stream: int, first: int, count: int, habits: Habits) -> None:
        self.number = number
        self.stream = stream
        self.first = first
        self.count = count
        self.habits = habits
        self.end = count  # shared: the worker begins no call from here on
        self.done: list[bool] = []  # shared: the outcomes
        self.seen = 0  # of those, told to the scheduler


class Phase(Enum):
    IDLE = auto()
    LOADING = auto()  # it has taken a span up
    BETWEEN = auto()  # about to read the end, and to begin the next call or stop
    RUNNING = auto()
    DEAD = auto()


class Worker:
    """Moves in small steps, each at its time: `advance` makes those that are due."""

    def __init__(
        self, number: int, rng: random.Random, truth: Truth, ready_at: float, dies_at: float, places: int
    ) -> None:
        self.number = number
        self.rng = rng
        self.truth = truth
        self.phase = Phase.IDLE
        self.next_at = ready_at
        self.ready_at = ready_at
        self.dies_at = dies_at
        self.leaves = False
        self.spans: deque[Span] = deque()  # sent, and their ends not told
        self.inbox: deque[Span] = deque()  # of those, not taken up
        self.outbox: deque[tuple[Span, int, float]] = deque()  # ends of spans, not told
        self.taken = 0  # shared
        self.loaded = 0  # shared
        self.loaded_seen = 0
        self.span: Span | None = None  # in hand
        self.began = 0.0
        self.fate = "ok"
        self.died_running = False
        self.killed_for: str | None = None  # why the scheduler ends it
        self.doomed_at = NEVER  # and when
        self.seen_dead = False  # the scheduler has been told that it is, and not how that came
        self.look_at = NEVER  # when its record and its messages are looked at
        self.many = Many(self, rng, places)  # calls that run beside each other

    # ---- what it does

    def advance(self, now: float) -> None:
        """Do all that is due by now."""
        while self.phase is not Phase.DEAD:
            at, other = self.due(), self.many.due()
            first = min(at, other, self.dies_at)
            if first > now:
                return
            if first == self.dies_at:
                self.die(first)
            elif first == at:
                self._step(first)
            else:
                self.many.step(first)

    def due(self) -> float:
        """When it moves next, if nothing is sent to it."""
        return NEVER if self.phase is Phase.IDLE and not self.inbox else self.next_at

    def news_at(self, now: float) -> float:
        """When there will be something to look at."""
        if self.is_dead or self.many.outbox or self.many.cuts:
            return now
        return self.next_at if self.spans else self.many.due()

    def hurry(self, now: float) -> None:
        """Move a little while the scheduler's side looks: the race of taking back."""
        for _ in range(self.rng.choice((0, 0, 1, 2, 3, 6))):
            if self.phase is Phase.DEAD or self.due() == NEVER or now < self.ready_at:
                return
            self._step(now)

    def receive(self, span: Span, now: float) -> None:
        self.spans.append(span)
        self.inbox.append(span)
        if self.phase is Phase.IDLE and len(self.inbox) == 1:
            self.next_at = now + self.rng.choice((0.0, 2e-5, 2e-5, 1e-3))

    def _step(self, at: float) -> None:
        span = self.span
        if self.phase is Phase.IDLE:
            self.span = span = self.inbox.popleft()
            self.taken = span.number
            self.began = at
            self.phase = Phase.LOADING
            self.next_at = at + span.habits.loading
        elif self.phase is Phase.LOADING:
            assert span is not None
            self.loaded = span.number
            self.phase = Phase.BETWEEN
            self.next_at = at
        elif self.phase is Phase.BETWEEN:
            assert span is not None
            if len(span.done) < span.end:
                number = span.first + len(span.done)
                self.truth.begin(self.number, self.killed_for is not None, span.stream, number, at)
                self.fate, seconds = span.habits.draw(self.rng)
                self.phase = Phase.RUNNING
                self.next_at = at + seconds
            else:
                self.outbox.append((span, len(span.done), at - self.began))
                self.span = None
                self.phase = Phase.IDLE
                self.next_at = at
        elif self.fate == "dies":
            self.die(at)
        else:
            assert span is not None
            self.truth.end(span.stream, span.first + len(span.done), self.fate == "ok", at)
            span.done.append(self.fate == "ok")
            self.phase = Phase.BETWEEN
            self.next_at = at if self.rng.random() < 0.9 else at + 1e-5

    @property
    def is_dead(self) -> bool:
        return self.phase is Phase.DEAD

    @property
    def is_busy(self) -> bool:
        """Has it been sent anything whose end has not been told?"""
        return bool(self.spans or self.many.spans)

    def die(self, at: float) -> None:
        """All that it runs ends with it."""
        self.many.die(at)
        if self.phase is Phase.RUNNING:
            assert self.span is not None
            self.truth.end(self.span.stream, self.span.first + len(self.span.done), False, at)
            self.died_running = True
        self.phase = Phase.DEAD
        self.dies_at = at

    # ---- what can be read

    def read(self) -> list[tuple[Span, list[Run]]]:
        """New outcomes by span, in the order of the calls."""
        return [(span, self._runs(span)) for span in self.spans if span.seen < len(span.done)]

    def _runs(self, span: Span) -> list[Run]:
        runs: list[Run] = []
        for at in range(span.seen, len(span.done)):
            ok, name = span.done[at], (span.stream, span.first + at)
            nbytes = self.rng.choice(OUTCOME_BYTES)
            if ok and runs and runs[-1].ok and self.rng.random() < 0.95:
                runs[-1].count += 1
                runs[-1].nbytes += nbytes
                runs[-1].packed.append(name)
            else:
                runs.append(Run(name[1], 1, ok, nbytes, [name]))
        span.seen = len(span.done)
        return runs

    def take_back(self, now: float) -> tuple[list[tuple[Span, list[Run]]], dict[int, int]]:
        """Cut the spans short behind what may be running: the new outcomes, and each span's limit.

        Between reading and writing the worker may move; the last reading tells what it may have begun.
        """
        self.advance(now)
        news = self.read()
        taken, written = self.taken, {}
        for span in self.spans:
            written[span.number] = 0 if span.number > taken else len(span.done) + (span.number == taken)
        if self.rng.random() < 0.3:
            self.hurry(now)
        for span in self.spans:
            span.end = min(span.end, written[span.number])
        if self.rng.random() < 0.3:
            self.hurry(now)
        news += self.read()
        limits = {}
        for span in self.spans:
            begun = len(span.done) + (span.number == self.taken)
            limits[span.number] = min(max(written[span.number], begun), span.count)
        return news, limits

    # ---- what is so

    def may_begin(self) -> list[tuple[int, int]]:
        """The calls that it is in, or may still begin."""
        calls = []
        for span in self.spans:
            done = len(span.done)
            running = span is self.span and self.phase is Phase.RUNNING
            if span is self.span or span in self.inbox:
                calls += [(span.stream, span.first + at) for at in range(done, max(span.end, done + running))]
        return calls

    def holds(self) -> list[tuple[int, int]]:
        """Some of the calls that have not ended, in any way of running them."""
        others = [call.name for call in self.many.running.values()] + self.many.may_begin()
        return self.may_begin()[:3] + self.rng.sample(others, min(len(others), 5))

    def may_be_in(self, call: tuple[int, int]) -> bool:
        """Is it in this call, or about to begin it, as far as the engine can tell?"""
        running = any(call == other.name for other in self.many.running.values())
        ended = any(call == (crowd.stream, crowd.first + at) for crowd, at, _, _ in self.many.unread)
        may_begin = self.many.in_limbo() + self.many.may_begin()
        return running or ended or call == self.culprit() or call in may_begin

    def culprit(self) -> tuple[int, int] | None:
        """The one call that its death may be blamed on: the first unrecorded one of the span that it took up last."""
        for span in self.spans:
            if span.number == self.taken and len(span.done) < span.count:
                return span.stream, span.first + len(span.done)
        return None
