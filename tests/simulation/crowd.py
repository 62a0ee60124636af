"""The other half of a simulated worker: calls that run beside each other, and what the engine can see of them."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from procoro.calls import Run
from procoro.scheduler.messages import Begun, Event, Recorded

if TYPE_CHECKING:
    from tests.simulation.workers import Habits, Worker

NEVER = float("inf")
OUTCOME_BYTES = (0, 8, 8, 8, 900)
OBEYING = (0.0, 1e-5, 1e-3, 0.3, 0.9)  # seconds that a call takes to end when it was asked to
SOON = 0.01  # while the engine looks, only what would happen within this time may happen


class Crowd:
    """A span whose calls run beside each other."""

    def __init__(
        self, number: int, stream: int, first: int, count: int, habits: Habits, apart: bool, sent_at: float
    ) -> None:
        self.number = number
        self.stream = stream
        self.first = first
        self.count = count
        self.habits = habits
        self.apart = apart  # it is one call that may have been the end of a worker
        self.sent_at = sent_at
        self.end = count  # shared: the worker begins no call from here on
        self.limit = count  # the same, as the engine has told it
        self.begun = 0
        self.told = 0  # calls that have begun, as the engine has told it: one of them may have been refused
        self.open = 0  # calls that run
        self.through = False  # no more of it will begin
        self.seconds = 0.0

    def limbo(self, worker: Worker) -> range:
        """Calls that have not begun, as far as the engine can tell: refused, claimed, or being loaded."""
        return range(self.begun, max(min(self.limit, worker.many.may_have_begun(self)), self.told))


class Running:
    """A call that runs."""

    def __init__(self, crowd: Crowd, at: int, fate: str, began: float, ends_at: float, obeys: bool) -> None:
        self.crowd = crowd
        self.at = at
        self.fate = fate
        self.began = began
        self.ends_at = ends_at
        self.obeys = obeys

    @property
    def name(self) -> tuple[int, int]:
        return self.crowd.stream, self.crowd.first + self.at


class Asked:
    """The scheduler wants a call to end: since when, and for what it may."""

    def __init__(self, since: float, kinds: set[str]) -> None:
        self.since = since
        self.kinds = kinds


class Many:
    """All calls that run beside each other in one worker. Moves in small steps, as the worker does.

    One thread of control begins, ends and loads; a call that does not yield (`blocker`) holds all that up.
    """

    def __init__(self, worker: Worker, rng: random.Random, places: int) -> None:
        self.worker = worker
        self.rng = rng
        self.places = places
        self.spans: dict[int, Crowd] = {}  # sent, and their ends not told
        self.inbox: deque[Crowd | tuple[int, int]] = deque()  # spans, and calls that are to end
        self.waiting: deque[Crowd] = deque()
        self.running: dict[tuple[int, int], Running] = {}
        self.outbox: list[Crowd] = []  # ended, and not told
        self.cuts: list[Crowd] = []  # of which a call was refused while others run, and that is not told
        self.unread: list[tuple[Crowd, int, bool, bool]] = []  # shared: outcomes: ok, cut
        self.header = self.header_seen = (0, 0)  # shared: the span that was begun last, so many of its calls
        self.loading: Crowd | None = None
        self.claimed = False  # it has said that it begins a call, and has not looked whether it may
        self._refused = False
        self.blocker: Running | None = None
        self.asked: dict[tuple[int, int], Asked] = {}  # until their outcome is told
        self.moved_at = 0.0
        self.vain_since = NEVER  # calls wait in it in vain (see books.py)
        self._known: set[int] = set()  # streams whose function it has loaded
        self._moves_at = 0.0
        self._inbox_at = 0.0
        self._ends: list[tuple[float, int, Running]] = []
        self._tie = 0

    # ---- what it does

    def receive(self, message: Crowd | tuple[int, int], now: float) -> None:
        if isinstance(message, Crowd):
            self.spans[message.number] = message
        if not self.inbox:
            self._inbox_at = now + self.rng.choice((0.0, 0.0, 2e-5, 1e-3, 0.03))
        self.inbox.append(message)

    def due(self) -> float:
        """When it moves next, if nothing is sent to it."""
        if not self.spans and not self.inbox:
            return NEVER
        if self.loading is not None or self.claimed:
            at = self._moves_at
        elif self.blocker is not None:
            at = self.blocker.ends_at
        else:
            at = min(self._next_end(), self._next_begin(), self._inbox_at if self.inbox else NEVER)
        return max(at, self.moved_at)

    def _next_end(self) -> float:
        while self._ends:
            at, _, call = self._ends[0]
            if call.ends_at == at and (call.crowd.number, call.at) in self.running:
                return at
            heapq.heappop(self._ends)
        return NEVER

    def _next_begin(self) -> float:
        return self._moves_at if self.waiting and len(self.running) < self.places else NEVER

    def hurry(self, now: float) -> None:
        """Move a little while the engine looks."""
        for _ in range(self.rng.choice((0, 0, 1, 2, 3, 6, 12))):
            if self.worker.is_dead or self.due() > now + SOON:
                return
            self.step(now)

    def step(self, at: float) -> None:
        self.moved_at = at
        if self.claimed:
            self._begin(at)
        elif self.loading is not None:
            if self.loading.habits.deadly_to_load and self.loading.end:
                self.worker.die(at)
                return
            self.worker.loaded = self.loading.number
            self.waiting.append(self.loading)
            self.loading = None
            self._moves_at = at
        elif self.blocker is not None:
            self._end(self.blocker, at)
        else:
            times = (self._next_begin(), self._next_end(), self._inbox_at if self.inbox else NEVER)
            if times[0] == min(times):
                self._claim(at)
            elif times[1] == min(times):
                self._end(self._ends[0][2], at)
            else:
                self._take_in(at)

    def _take_in(self, at: float) -> None:
        message = self.inbox.popleft()
        self._inbox_at = at
        if isinstance(message, Crowd):
            self.worker.taken = message.number
            self.loading = message
            seconds = message.habits.draw_loading(self.rng) if message.stream not in self._known else 0.0
            self._known.add(message.stream)
            self._moves_at = at + seconds
            return
        call = self.running.get(message)
        if call is not None and call.obeys:
            ends_at = at + self.rng.choice(OBEYING) * self.rng.random()
            if ends_at < call.ends_at:
                call.fate = self.rng.choice(("cut", "cut", "cut", "failed", "ok"))
                self._ends_at(call, ends_at)

    def _claim(self, at: float) -> None:
        crowd = self.waiting[0]
        self.claimed = True
        self._moves_at = at + self.rng.choice((0.0, 0.0, 1e-6))
        self._refused = not crowd.begun and not crowd.end
        if not self._refused:  # else nothing of it is begun, and all before it need not have been
            self.header = crowd.number, crowd.begun + 1

    def _begin(self, at: float) -> None:
        """Begin the call that it has claimed, or let go of a span that was taken back."""
        self.claimed = False
        crowd = self.waiting[0]
        self._moves_at = at
        refused = self._refused or crowd.begun >= crowd.end
        if not refused:
            self._run(crowd, at)
        if refused or crowd.begun == crowd.count:
            self.waiting.popleft()
            crowd.through = True
            if not crowd.open:
                self.outbox.append(crowd)
            elif refused:
                self.cuts.append(crowd)

    def _run(self, crowd: Crowd, at: float) -> None:
        number = crowd.begun
        crowd.begun += 1
        crowd.open += 1
        doomed = self.worker.killed_for is not None
        self.worker.truth.begin(self.worker.number, doomed, crowd.stream, crowd.first + number, at)
        fate, seconds = crowd.habits.draw(self.rng)
        call = Running(crowd, number, fate, at, at + seconds, self.rng.random() >= crowd.habits.stubborn)
        self.running[crowd.number, number] = call
        self._ends_at(call, call.ends_at)
        if self.rng.random() < crowd.habits.blocking:
            self.blocker = call

    def _ends_at(self, call: Running, when: float) -> None:
        call.ends_at = when
        self._tie += 1
        heapq.heappush(self._ends, (when, self._tie, call))

    def _end(self, call: Running, at: float) -> None:
        if call.fate == "dies":
            self.worker.die(at)
            return
        crowd = call.crowd
        if call is self.blocker:
            self.blocker = None
        del self.running[crowd.number, call.at]
        self.worker.truth.end(*call.name, call.fate == "ok", at)
        if call.fate == "cut":
            self.worker.truth.cut(*call.name, self.asked[crowd.number, call.at].kinds)
        self.unread.append((crowd, call.at, call.fate == "ok", call.fate == "cut"))
        crowd.seconds += at - call.began
        crowd.open -= 1
        if crowd.through and not crowd.open:
            self.outbox.append(crowd)

    def die(self, at: float) -> None:
        for call in self.running.values():
            self.worker.truth.end(*call.name, False, at)

    # ---- what the engine sees of it

    def look(self, now: float) -> Iterator[Event]:
        """What is new: outcomes, and then how many calls have begun, which may be more by then."""
        runs: dict[int, list[Run]] = {}
        for crowd, at, ok, cut in self.unread:
            self._add(runs.setdefault(crowd.number, []), crowd, at, ok, cut)
            self.asked.pop((crowd.number, at), None)
        self.unread.clear()
        if self.rng.random() < 0.1:
            self.hurry(now)
        if self.header != self.header_seen:
            self.header_seen = latest, begun = self.header
            for crowd in self.spans.values():
                if crowd.number <= latest:
                    crowd.told = max(crowd.told, min(crowd.limit, begun if crowd.number == latest else crowd.limit))
            yield Begun(self.worker.number, latest, begun)
        for number, ended in runs.items():
            yield Recorded(self.worker.number, number, ended)

    def _add(self, runs: list[Run], crowd: Crowd, at: int, ok: bool, cut: bool) -> None:
        name = crowd.stream, crowd.first + at
        nbytes = self.rng.choice(OUTCOME_BYTES)
        if ok and runs and runs[-1].ok and runs[-1].first + runs[-1].count == name[1] and self.rng.random() < 0.9:
            runs[-1].count += 1
            runs[-1].nbytes += nbytes
            runs[-1].packed.append(name)  # type: ignore[attr-defined]
        else:
            runs.append(Run(name[1], 1, ok, nbytes, [name], cut))

    def take_back(self, now: float) -> tuple[list[Event], dict[int, int]]:
        """As the engine does it: what is new, and each span's limit. The worker may move at any moment."""
        events = list(self.look(now))
        written = {crowd.number: self.may_have_begun(crowd) for crowd in self.spans.values()}
        hurries = self.rng.random() < 0.3
        for crowd in reversed(self.spans.values()):  # else it could refuse a call, and then begin those behind it
            if hurries and self.rng.random() < 0.3:
                self.hurry(now)
            crowd.end = min(crowd.end, written[crowd.number])
        if hurries:
            self.hurry(now)
        events += self.look(now)
        if hurries:
            self.hurry(now)
        limits = {number: max(written[number], self.may_have_begun(crowd)) for number, crowd in self.spans.items()}
        for crowd in self.spans.values():
            crowd.limit = limits[crowd.number]
        return events, limits

    def may_have_begun(self, crowd: Crowd) -> int:
        """How many calls the worker may have begun, as far as the engine can tell."""
        latest, begun = self.header
        if latest == crowd.number:
            return min(begun, crowd.limit)
        if crowd.number < latest:
            return crowd.limit
        is_loading = self.worker.taken == crowd.number != self.worker.loaded
        return min(crowd.limit, int(is_loading))

    # ---- what is so

    @property
    def is_free(self) -> bool:
        """Has it nothing to do but to wait for its calls?"""
        busy = self.loading or self.claimed or self.blocker or self.inbox or self._next_begin() < NEVER
        return not busy

    def may_begin(self) -> list[tuple[int, int]]:
        """The calls that it may still begin."""
        calls = []
        for crowd in self.spans.values():
            if not crowd.through:
                calls += [(crowd.stream, crowd.first + at) for at in range(crowd.begun, crowd.end)]
        return calls

    def in_limbo(self) -> list[tuple[int, int]]:
        """See `Crowd.limbo`."""
        return [(crowd.stream, crowd.first + at) for crowd in self.spans.values() for at in crowd.limbo(self.worker)]
