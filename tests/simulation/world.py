"""A pool played from a seed: workers run, dawdle and die, users come and go; promises are checked at every step.

The world owns time and order. Workers move by themselves (`workers.py`); the scheduler learns of it only when the
conductor's part, played here, reads a record or a message: later, and in another order.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import ClassVar

from procoro.calls import FaultKind, Run
from procoro.scheduler import messages as m
from procoro.scheduler.batching import MOST_CALLS
from procoro.scheduler.scheduler import DEADLY, FAILURES, Scheduler
from procoro.scheduler.streams import FURTHER, HEAVY
from tests.simulation.books import check_books, check_refused, check_stuck, check_waits, is_full, is_idle
from tests.simulation.crowd import NEVER, Crowd
from tests.simulation.deaths import ONE, Deaths
from tests.simulation.truth import Call, Source, Truth
from tests.simulation.users import Users
from tests.simulation.workers import Habits, Phase, Span, Worker

MOST_STEPS = 20_000
MOST_STARTS = 1_500
SAMPLE = 0.1  # seconds between two looks, at most, while calls run


class World:
    """One pool and its users. `play()` runs it to its end."""

    def __init__(self, seed: int, scheduler: type[Scheduler] = Scheduler, log: bool = False) -> None:
        self.rng = rng = random.Random(seed)
        self.now = 0.0
        self.log: list[str] | None = [] if log else None
        self.size = rng.choice((1, 1, 2, 2, 3, 5))
        self.cruel = rng.choice((0.0, 0.3, 1.0, 1.0))
        self.kept = rng.choice((0.0, 0.0, 0.3))  # share of the conductor's turns in which much has happened at once
        self.turn_lasts = False
        self.lazy = rng.choice((0.0, 0.3))  # share of looks that leave messages unread
        self.stillborn = rng.choice((0.0, 0.0, 0.1, 0.1, 1.0)) if self.cruel == 1.0 else 0.0
        self.refused = rng.choice((0.0, 0.0, 0.03)) if self.cruel else 0.0  # share of sends that fail
        self.memory_limit = rng.choice((None, None, 1000))
        most_calls = rng.choice((None, None, None, 1, 3, 40))
        self.many = rng.choice((0.0, 0.0, 0.5, 1.0, 1.0))  # share of streams whose calls run beside each other
        self.places = rng.choice((1, 2, 3, 10, 50)) if self.many else 1
        self.can_end_calls = rng.random() < 0.7
        self.scheduler = scheduler(
            self.size, most_calls, self.memory_limit, places=self.places, can_end_calls=self.can_end_calls
        )
        if rng.random() < 0.5:
            self.scheduler.streams.most_items = rng.choice((4, 20, 100))
            self.scheduler.streams.most_nbytes = rng.choice((100, 10_000, 1 << 24))
        self.truth = Truth(most_calls)
        self.workers: dict[int, Worker] = {}
        self.deaths = Deaths(self)
        self.charges: dict[int, list[tuple[int, int, str, range]]] = {}  # of workers whose loss is about to be told
        self.habits: dict[int, Habits] = {}
        self.starts = 0
        self.steps = 0
        self.closing = False
        self.gave_up = False
        self.next_ticket = 0
        self.vain_ticks = 0
        self.recent: list[tuple[int, int]] = []  # calls that may be cancelled
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._tie = 0
        self.told: deque[m.Event] = deque()
        self.effects: list[m.Effect] = []  # those of the present batch of events

    # ------------------------------------------------------------------------------------------ the clock

    def play(self) -> None:
        users = Users(self)
        self._carry_out(self.scheduler.start(self.now))
        self.settle()
        for _ in range(self.rng.choice((1, 1, 2, 3, 6))):
            self.at(self.rng.choice((0.0, 0.01, 0.2, 3.0)) * self.rng.random(), users.open_stream)
        for _ in range(self.rng.choice((0, 1, 5, 20))):
            self.at(self.rng.choice((0.001, 0.1, 1.0, 5.0)) * self.rng.random(), users.meddle)
        self.at(self.rng.choice((0.05, 4.0, 400.0, 400.0)) * self.rng.random(), users.finish)
        while self._step():
            pass
        self.truth.check_the_end()

    def _step(self) -> bool:
        self.steps += 1
        assert self.steps < MOST_STEPS, "the world does not come to an end"
        tick = self.scheduler.wake_at()
        if tick is not None and self.rng.random() < 0.2:
            tick += self.rng.random() * 0.003  # the machine is busy
        if tick is not None and (not self._agenda or tick <= self._agenda[0][0]):
            self.now = max(self.now, tick)
            self._tick()
        elif self._agenda:
            self._take_turn()
        else:
            return False
        if self.many:
            check_waits(self)
        return True

    def _take_turn(self) -> None:
        """The next thing that happens; now and then several at once, when the conductor was kept."""
        self.turn_lasts = self.rng.random() < self.kept
        until = self._agenda[0][0] + (0.005 if self.turn_lasts else 0.0)
        self.now, _, action = heapq.heappop(self._agenda)
        action()
        while self.turn_lasts and self._agenda and self._agenda[0][0] <= until:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
        self.turn_lasts = False
        self.settle()

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        self._tie += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._tie, action))

    def _tick(self) -> None:
        for worker in list(self.workers.values()):
            self._read(worker)
        self.tell(m.Tick())
        again = self.scheduler.wake_at()
        self.vain_ticks = self.vain_ticks + 1 if again is not None and again <= self.now else 0
        assert self.vain_ticks < 3, f"woken at {self.now}, it wants to be woken at {again}"

    # ----------------------------------------------------------------------------- the conductor's part

    def tell(self, event: m.Event) -> None:
        self.told.append(event)
        if not self.turn_lasts:
            self.settle()

    def settle(self) -> None:
        while self.told:
            events = list(self.told)
            self.told.clear()
            for event in events:
                self._note(event)
                if type(event) is m.WorkerLost:
                    for charge in self.charges.pop(event.worker, ()):
                        self.truth.charge(*charge)
                elif type(event) is m.TerminateAsked:
                    self.truth.over.add(FaultKind.TERMINATED)
            self._carry_out(self.scheduler.handle(events, self.now))
            check_books(self)

    def _note(self, message: m.Event | m.Effect) -> None:
        if self.log is not None:
            fields = ", ".join(f"{name}={_short(getattr(message, name))}" for name in message.__slots__)
            sign = ">" if isinstance(message, m.Effect) else " "
            self.log.append(f"{self.now:12.6f} {sign} {type(message).__name__}({fields})")

    def _carry_out(self, effects: list[m.Effect]) -> None:
        self.effects = effects
        for effect in effects:
            self._note(effect)
            assert not self.truth.ended or type(effect) is m.Answer, f"{type(effect).__name__} after the end"
            self.CARRY_OUT[type(effect)](self, effect)

    def _start_worker(self, effect: m.StartWorker) -> None:
        self.starts += 1
        assert self.starts < MOST_STARTS, "a fork storm"
        assert effect.worker not in self.workers and not self.truth.over
        living = sum(worker.killed_for is None and not worker.leaves for worker in self.workers.values())
        assert living < self.size, "more workers than asked for"
        rng = self.rng
        ready_at = self.now + rng.choice((0.001, 0.03, 0.1)) * rng.random()
        dies_at = NEVER
        if rng.random() < self.stillborn:
            dies_at = self.now + (ready_at - self.now) * rng.random()
        elif rng.random() < 0.05 * self.cruel:
            dies_at = ready_at + rng.choice((0.0001, 0.01, 1.0)) * rng.random()
        worker = self.workers[effect.worker] = Worker(effect.worker, rng, self.truth, ready_at, dies_at, self.places)
        self.at(min(ready_at, dies_at) - self.now, lambda: self._get_ready(worker))

    def _get_ready(self, worker: Worker) -> None:
        if self._is_here(worker):
            if worker.dies_at <= worker.ready_at:
                self.bury(worker)
            else:
                self.tell(m.WorkerReady(worker.number))
                self.expect_death(worker)

    def expect_death(self, worker: Worker) -> None:
        if worker.dies_at < NEVER:
            delay = max(worker.dies_at - self.now, 0.0) + self.rng.choice((0.0, 0.0, 0.001, 0.02)) * self.rng.random()
            if self.rng.random() < 0.3:
                self.at(delay, lambda: self._see_dead(worker))
                delay += self.rng.choice((0.0, 0.02, 3.0)) * self.rng.random()
            self.at(delay, lambda: self.bury(worker))

    def _see_dead(self, worker: Worker) -> None:
        """Before it is told how it ended."""
        if self._is_here(worker) and not worker.seen_dead:
            worker.advance(max(self.now, worker.dies_at))
            worker.seen_dead = True
            self.tell(m.WorkerDead(worker.number))

    def _is_here(self, worker: Worker) -> bool:
        return self.workers.get(worker.number) is worker

    def _retire_worker(self, effect: m.RetireWorker) -> None:
        worker = self.workers.get(effect.worker)
        if worker is None:
            return  # it is dead, which is about to be told
        assert not worker.is_busy and worker.killed_for is None and not worker.leaves, "a busy worker is asked to leave"
        worker.leaves = True
        self.starts -= 1
        worker.dies_at = min(worker.dies_at, self.now + self.rng.choice((0.0, 0.01)) * self.rng.random())
        self.expect_death(worker)

    def _kill_worker(self, effect: m.KillWorker) -> None:
        worker = self.workers.get(effect.worker)
        if worker is None:
            return  # it is dead, which is about to be told
        assert worker.killed_for is None, "a worker is killed twice"
        worker.killed_for = self.scheduler.fleet.workers[effect.worker].killed_for
        late = worker.killed_for in (FaultKind.TIMEOUT, FaultKind.MEMORY)
        assert not (late and worker.seen_dead and worker.is_busy), "a call is late in a worker that is dead"
        worker.doomed_at = self.now
        worker.advance(self.now)
        if worker.many.spans and not self.truth.over:
            self.deaths.check_kill(worker)
        elif not self.truth.over and not self._may_end():
            self._check_kill(worker)
        worker.dies_at = min(worker.dies_at, self.now + self.rng.choice((0.0, 0.0, 0.001, 0.05)) * self.rng.random())
        self.expect_death(worker)

    def _may_end(self) -> bool:
        return self.closing and all(source.ended for source in self.truth.sources.values())

    def _check_kill(self, worker: Worker) -> None:
        """It hits one call at most, and that one has deserved it."""
        hit = worker.may_begin()
        assert len(hit) <= 1, f"worker {worker.number} is killed ({worker.killed_for}) with {hit} before it"
        if not hit or worker.phase is not Phase.RUNNING:
            return
        stream, number = hit[0]
        call, opened = self.truth.find(stream, number), self.truth.sources[stream].opened
        if worker.killed_for == FaultKind.TIMEOUT:
            assert opened.timeout is not None and self.now - call.began >= opened.timeout - 1e-3, "killed too early"
        elif worker.killed_for == FaultKind.KILLED:
            assert call.unwanted, "killed, and nobody asked for it"
        else:
            assert worker.killed_for == FaultKind.MEMORY and self.memory_limit is not None

    def _send(self, effect: m.Send) -> None:
        worker = self.workers.get(effect.worker)
        if worker is None:
            return  # it is dead, which is about to be told
        assert worker.killed_for is None and not worker.leaves, "sent to a worker that is to go"
        assert not worker.seen_dead, "sent to a worker that is dead"
        taken = self.scheduler.fleet.workers[effect.worker].being_taken_back
        assert not taken, "sent to a worker whose calls are being taken back"
        assert self.now >= worker.ready_at, "sent to a worker that is not ready"
        assert 0 < effect.count <= MOST_CALLS
        source = self.truth.sources[effect.stream]
        assert effect.count <= MOST_CALLS
        first, stop = effect.first, effect.first + effect.count
        assert effect.items[effect.offset : effect.offset + effect.count] == range(first, stop), "not its inputs"
        if self.scheduler.short:
            others = [other for other in self.workers.values() if other.is_busy]
            assert not others, "memory is short, and a second worker is given something"
            assert effect.count == 1 or not effect.many, "memory is short, and many calls are to run at once"
        streams = self.scheduler.streams
        full = streams.nbytes > HEAVY * streams.most_nbytes + len(self.truth.sources)
        takes = source.delivered > source.consumed
        assert not (source.bounded and full and takes), "outcomes hold all memory, and there will be more"
        worker.advance(self.now)
        assert effect.many == source.opened.many
        if self.rng.random() < self.refused:
            self._refuse(effect)
        elif effect.many:
            self._send_crowd(effect, worker)
        else:
            assert not worker.many.spans, "calls that run alone are sent beside others"
            assert len(worker.spans) < 2, "a worker holds three spans"
            worker.receive(Span(effect.span, effect.stream, first, effect.count, self.habits[effect.stream]), self.now)
        self._expect_news(worker)

    def _send_crowd(self, effect: m.Send, worker: Worker) -> None:
        many = worker.many
        assert not worker.spans, "calls that run beside others are sent to a worker that runs them alone"
        assert not any(crowd.apart for crowd in many.spans.values()), "a call that is to be alone is given company"
        numbers = range(effect.first, effect.first + effect.count)
        apart = any((effect.stream, number) in self.truth.suspects for number in numbers)
        assert not apart or (effect.count == 1 and not many.spans), "a call that is to be alone is sent to others"
        functions = {source.opened.function for source in self.truth.sources.values()}
        ahead = max(self.scheduler.batching.ahead(function, self.places) for function in functions)
        held = self.scheduler.fleet.workers[worker.number].held
        assert held <= self.places + ahead, f"{held} calls in a worker for {self.places}"
        if held > self.places:
            idle = [other.number for other in self.scheduler.fleet.workers.values() if is_idle(other)]
            full = any(is_full(self, lane) for lane in self.scheduler.backlog.waiting.values())
            assert not idle or full, f"{held} calls in a worker for {self.places}, and none in {idle}"
        habits = self.habits[effect.stream]
        crowd = Crowd(effect.span, effect.stream, effect.first, effect.count, habits, apart, self.now)
        many.receive(crowd, self.now)

    def _refuse(self, effect: m.Send) -> None:
        """No descriptor was free, say: as the conductor does it, these calls have failed."""
        runs = []
        for number in range(effect.first, effect.first + effect.count):
            call = self.truth.find(effect.stream, number)
            call.ok, call.ended_at = False, self.now
            call.narrow += 1
            runs.append(Run(number, 1, False, 0, [(effect.stream, number)]))
        self.told.append(m.Recorded(effect.worker, effect.span, runs))
        self.told.append(m.SpanEnded(effect.worker, effect.span, effect.count, 0.0))

    def _end_call(self, effect: m.EndCall) -> None:
        worker = self.workers.get(effect.worker)
        if worker is None:
            return  # it is dead, which is about to be told
        worker.advance(self.now)
        self.deaths.ask(worker, effect.span, effect.call)
        worker.many.receive((effect.span, effect.call), self.now)
        self._expect_news(worker)

    def _expect_news(self, worker: Worker) -> None:
        """The worker rings when there is something to read; somebody comes, sooner or later."""
        wait = max(worker.news_at(self.now) - self.now, 0.0) + self.rng.choice((0.0, 0.0002, 0.002)) * self.rng.random()
        if worker.many.spans:
            wait += self.rng.choice((0.0, 0.0, 0.0, SAMPLE)) * self.rng.random()
        if self.now + wait < worker.look_at:
            worker.look_at = self.now + wait
            self.at(wait, lambda: self._look(worker))

    def _look(self, worker: Worker) -> None:
        if not self._is_here(worker) or self.now < worker.look_at:
            return
        worker.look_at = NEVER
        worker.advance(self.now)
        if worker.phase is Phase.DEAD:
            self.expect_death(worker)
            return
        self._read(worker)
        self._take_mail(worker)
        if worker.is_busy:
            self._expect_news(worker)
            check_stuck(self, worker)
            check_refused(self, worker)

    def _read(self, worker: Worker) -> None:
        worker.advance(self.now)
        self.told += self._news(worker)
        if not self.turn_lasts:
            self.settle()

    def _news(self, worker: Worker) -> list[m.Event]:
        news: list[m.Event] = []
        if worker.loaded != worker.loaded_seen:
            worker.loaded_seen = worker.loaded
            news.append(m.Begun(worker.number, worker.loaded))
        news += [m.Recorded(worker.number, span.number, runs) for span, runs in worker.read()]
        return news + list(worker.many.look(self.now))

    def _take_mail(self, worker: Worker) -> None:
        while worker.outbox and self.rng.random() >= self.lazy:
            span, ran, seconds = worker.outbox.popleft()
            worker.spans.remove(span)
            self.tell(m.SpanEnded(worker.number, span.number, ran, seconds))
        many = worker.many
        while many.cuts and self.rng.random() >= self.lazy:
            crowd = many.cuts.pop()
            crowd.limit, crowd.told = min(crowd.limit, crowd.begun), min(crowd.told, crowd.begun)
            self.tell(m.Cut(worker.number, crowd.number, crowd.begun))
        while many.outbox and self.rng.random() >= self.lazy:
            crowd = many.outbox.pop(self.rng.randrange(len(many.outbox)))
            self._read(worker)
            del many.spans[crowd.number]
            self.tell(m.SpanEnded(worker.number, crowd.number, crowd.begun, crowd.seconds))

    def _take_back(self, effect: m.TakeBack) -> None:
        worker = self.workers.get(effect.worker)
        if worker is None:
            return  # it is dead, which is about to be told
        news, limits = worker.take_back(self.now)
        for span, runs in news:
            self.told.append(m.Recorded(worker.number, span.number, runs))
        if worker.many.spans:
            events, limits = worker.many.take_back(self.now)
            self.told += events
        self.told.append(m.TakenBack(worker.number, limits))
        self._expect_news(worker)

    def bury(self, worker: Worker) -> None:
        if not self._is_here(worker):
            return
        worker.advance(max(self.now, worker.dies_at))  # the same moment, but for rounding
        self._read(worker)
        self._take_mail(worker)
        culprit = worker.culprit()
        if culprit is not None:
            kind = worker.killed_for or FaultKind.DIED
            self.charges[worker.number] = [(*culprit, kind, ONE)]
            self.truth.find(*culprit).narrow += not worker.died_running
            if worker.killed_for is None:
                self.truth.deaths[culprit[0]] += 1
        killed = self.rng.random() < 0.5
        if worker.many.spans:
            self.charges[worker.number] = self.deaths.charges(worker)
            if not (killed or self.charges[worker.number]):  # it may have failed to begin any
                for stream in {crowd.stream for crowd in worker.many.spans.values()}:
                    self.truth.deaths[stream] += DEADLY // FAILURES
        del self.workers[worker.number]
        self.tell(m.WorkerLost(worker.number, worker.taken, "left" if worker.leaves else "gone", killed))

    # -------------------------------------------------------------------------------- inputs and outcomes

    def _pull(self, effect: m.Pull) -> None:
        source = self.truth.sources[effect.stream]
        if source.exhausted and self.told:
            return  # which is about to be told
        assert source.asked is None and not source.stopped and not source.exhausted, "pulled too often"
        assert effect.count >= 1 and effect.nbytes >= 1
        if not self.told:
            self._check_bounds(source, effect)
        source.asked = (effect.count, effect.nbytes)
        slow = source.opened.total is None
        delay = self.rng.choice((0.0, 0.001, 0.2)) * self.rng.random() if slow else 0.0
        self.at(delay, lambda: self._answer_pull(source))

    def _check_bounds(self, source: Source, pull: m.Pull) -> None:
        """No more in flight than 4,096 items or what may run at once, and 16 MiB or one item.

        (Inputs whose number is known are counted apart, and four times as many may be.)
        """
        bounds = self.scheduler.streams
        if not source.bounded:
            assert pull.nbytes <= bounds.most_nbytes
            return
        # Outcomes that wait for those before them count as outcomes there, as inputs here: no exact bound then.
        bounded = [other for other in self.truth.sources.values() if other.bounded]
        floor = 2 * self.size
        lazy = source.opened.total is None
        alike = [other for other in bounded if (other.opened.total is None) == lazy]
        items = sum(other.in_flight + (other.asked or (0, 0))[0] for other in alike) + pull.count
        window = bounds.most_items * (1 if lazy else FURTHER)
        most = max(window, floor) + floor * (len(bounded) - 1)
        assert items <= most, f"{items} items in flight"
        nbytes = sum(other.nbytes + (other.asked or (0, 0))[1] for other in bounded) + pull.nbytes
        if any(other.opened.ordered for other in bounded):
            return
        alone = pull.count == 1 and source.in_flight == 0
        assert nbytes <= bounds.most_nbytes + len(bounded) or alone, f"{nbytes} bytes in flight"

    def _answer_pull(self, source: Source) -> None:
        if source.exhausted or source.asked is None:
            return
        count, nbytes = source.asked
        source.asked = None
        few = self.rng.randint(1, count) if self.rng.random() < 0.2 else count
        few = max(1, min(few, nbytes // max(source.weight, 1)))
        few = min(few, source.left)
        if few:
            self.supply(source, few)
        if source.left == 0 and not source.exhausted and (few == 0 or self.rng.random() < 0.5):
            self.exhaust(source)

    def supply(self, source: Source, count: int) -> None:
        self.tell(m.Supplied(source.number, *self.take_inputs(source, count)))

    def take_inputs(self, source: Source, count: int) -> tuple[range, int]:
        """The next inputs of a stream, and their bytes."""
        first = len(source.calls)
        source.left -= count
        source.calls += [Call() for _ in range(count)]
        source.nbytes += count * source.weight
        self.recent.append((source.number, first + self.rng.randrange(count)))
        return range(first, first + count), count * source.weight

    def exhaust(self, source: Source) -> None:
        if not source.exhausted:
            source.exhausted = True
            source.asked = None
            self.tell(m.Exhausted(source.number))

    def _stop_pulling(self, effect: m.StopPulling) -> None:
        source = self.truth.sources[effect.stream]
        if source.exhausted and self.told:
            return
        assert source.opened.items is None and not source.stopped and not source.exhausted, "stopped for nothing"
        source.stopped = True
        source.why = effect.ending
        self.at(self.rng.choice((0.0, 0.1)) * self.rng.random(), lambda: self.exhaust(source))

    def _deliver(self, effect: m.Deliver) -> None:
        self.truth.deliver(effect.stream, effect.outcome)
        self._expect_consumer(self.truth.sources[effect.stream])

    def _end_stream(self, effect: m.StreamEnded) -> None:
        self.truth.end_stream(effect.stream)

    def _expect_consumer(self, source: Source) -> None:
        if source.untaken and not source.expected:
            source.expected = True
            self.at(self.rng.choice(source.pauses), lambda: self._consume(source))

    def _consume(self, source: Source) -> None:
        source.expected = False
        if source.untaken:
            count, nbytes = source.take(self.rng.randint(1, len(source.untaken)))
            self.tell(m.Consumed(source.number, count, nbytes))
            self._expect_consumer(source)

    def _answer(self, effect: m.Answer) -> None:
        """Yes to all that had not begun, and to all that is to be killed."""
        stream, number, kill = self.truth.tickets[effect.ticket]
        is_open = self.truth.find(stream, number).fate is None and not self._is_held(stream, number)
        if not effect.yes and is_open:
            begun = any(worker.may_be_in((stream, number)) for worker in self.workers.values())
            assert begun and not kill, f"call {stream}/{number} is neither cancelled nor killed"
        elif effect.yes and is_open:
            assert kill, f"call {stream}/{number} is cancelled, yet open"
            for worker in self.workers.values():
                if (stream, number) in worker.many.in_limbo() + worker.many.may_begin():
                    self.truth.find(stream, number).limbo = worker.number
        self.truth.answer(effect.ticket, effect.yes, self.now)

    def _is_held(self, stream: int, number: int) -> bool:
        """Has it ended, and waits for those before it, or is just about to be delivered?"""
        books = self.scheduler.streams.by_number.get(stream)
        ended = [*books.held.values()] if books is not None else []
        ended += [one.outcome for one in self.effects if type(one) is m.Deliver and one.stream == stream]
        return any(outcome.first <= number < outcome.first + outcome.count for outcome in ended)

    def _give_up(self, effect: m.GiveUp) -> None:
        assert not self.truth.over and not self.gave_up, "gives up twice"
        assert self.stillborn, "gives up for no reason"
        self.gave_up = True
        self.truth.over.add(FaultKind.GAVE_UP)

    def _end(self, effect: m.Ended) -> None:
        assert self.closing and not self.workers, "ended too early"
        self.truth.ended = True

    CARRY_OUT: ClassVar[dict[type, Callable[..., None]]] = {
        m.StartWorker: _start_worker,
        m.RetireWorker: _retire_worker,
        m.KillWorker: _kill_worker,
        m.Send: _send,
        m.TakeBack: _take_back,
        m.EndCall: _end_call,
        m.Pull: _pull,
        m.StopPulling: _stop_pulling,
        m.Deliver: _deliver,
        m.StreamEnded: _end_stream,
        m.Answer: _answer,
        m.GiveUp: _give_up,
        m.Ended: _end,
    }


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def play(seed: int, scheduler: type[Scheduler] = Scheduler) -> World:
    """Play the world of this seed; if a promise is broken, say which, and tell the story that led there."""
    world = World(seed, scheduler)
    try:
        world.play()
    except Exception as error:
        again = World(seed, scheduler, log=True)
        try:
            again.play()
        except Exception:
            story = "\n".join((again.log or [])[-40:])
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{story}") from error
        raise AssertionError(f"seed {seed} is not replayed: {error}") from error
    return world
