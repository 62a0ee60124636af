"""Which call goes where, and how each one ends.

A call is in one place at a time, and moves only like this:

    waiting    in the backlog (in a lane, or put off for a retry)
      -> sent       in a span that a worker holds
      -> ended      cancelled, or the pool is over
    sent       the worker may begin it at any moment
      -> waiting    taken back, or its worker died before it was begun; or it failed and is to be retried
      -> ended      its outcome was recorded, or its worker died in it
    ended      delivered; nothing may follow

A running call is ended with its worker, and no other call is to die with it:

    it is to end -> TakeBack, what stands behind it -> TakenBack: is the worker in it still? -> KillWorker -> WorkerLost

(A worker that runs many calls is asked to end one of them first, see crowds.py.)

A call that is sent moves back to waiting only on proof that it was not begun: a `TakenBack`, a `Cut`, a `SpanEnded`
or a `WorkerLost`, each told after all that the worker had recorded. So no call is started twice, and since every way
out of a place leads into another, none is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from procoro.calls import Ending, Fault, FaultKind, Run
from procoro.scheduler.backlog import Backlog, Lane
from procoro.scheduler.batching import SHARED, Batching
from procoro.scheduler.crowds import LOADING, Crowds
from procoro.scheduler.fleet import WINDOW, Fleet, Worker
from procoro.scheduler.messages import (
    Answer,
    Begun,
    CancelAsked,
    CloseAsked,
    Consumed,
    Cut,
    Detached,
    DrainAsked,
    Effect,
    Ended,
    Event,
    Exhausted,
    GiveUp,
    KillWorker,
    MemorySeen,
    MemoryShort,
    Opened,
    Recorded,
    RetireWorker,
    Send,
    SpanEnded,
    StartWorker,
    Supplied,
    TakeBack,
    TakenBack,
    TerminateAsked,
    Tick,
    Unbounded,
    WorkerDead,
    WorkerLost,
    WorkerReady,
)
from procoro.scheduler.spans import Crowd, Sent
from procoro.scheduler.streams import Stream, Streams

LONG = 0.05  # seconds: what stands behind a call that runs longer is taken back; behind a packet, if others are idle
SOONER = 0.02  # likewise behind a call that began unseen, in a packet of many; behind a packet, if another party waits
HUNG = 10.0  # seconds granted to a worker that has nothing left to run, to say so
DEADLY = 1000  # workers lost in a row to one stream, before it is given up: half a minute
FAILURES = 10  # likewise, workers that left by themselves before they began any call of it


class Scheduler:
    """The state of one pool. `handle` is the only door; times are seconds of the caller's clock.

    `size` workers are kept; `most_calls` is `maxtasksperchild`, `memory_limit` bytes of one worker, `start_timeout`
    the seconds in which a worker has to get ready. Of calls that may run beside each other, a worker runs `places`,
    and can end one of them if they are `can_end_calls`.
    """

    def __init__(
        self,
        size: int,
        most_calls: int | None = None,
        memory_limit: int | None = None,
        start_timeout: float | None = None,
        places: int = 1,
        can_end_calls: bool = True,
    ) -> None:
        self.fleet = Fleet(size, most_calls)
        self.backlog = Backlog()
        self.batching = Batching()
        self.streams = Streams(self.backlog, self.batching, size, places, self._do)
        self.crowds = Crowds(places, can_end_calls, self.fleet, self.batching, self.streams, self._take_back, self._do)
        self.memory_limit = memory_limit
        self.start_timeout = start_timeout
        self.has_many = False  # has there been a stream whose calls may run beside each other?
        self.short = False  # of memory
        self.closing = False
        self.over: Ending | None = None  # terminated or given up: what every call ends with from now on
        self.ended = False
        self._span = 0
        self._effects: list[Effect] = []
        # Any: each handler takes one class of event, and the table is by class.
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            Opened: self._on_opened,
            Supplied: self.streams.on_supplied,
            Exhausted: self.streams.on_exhausted,
            Consumed: self.streams.on_consumed,
            Detached: self.streams.on_detached,
            Unbounded: self.streams.on_unbounded,
            DrainAsked: self._on_drain_asked,
            CancelAsked: self._on_cancel_asked,
            WorkerReady: self._on_worker_ready,
            Begun: self._on_begun,
            Recorded: self._on_recorded,
            SpanEnded: self._on_span_ended,
            Cut: self._on_cut,
            TakenBack: self._on_taken_back,
            WorkerDead: self._on_worker_dead,
            WorkerLost: self._on_worker_lost,
            MemorySeen: self._on_memory_seen,
            MemoryShort: self._on_memory_short,
            Tick: self._on_tick,
            CloseAsked: self._on_close_asked,
            TerminateAsked: self._on_terminate_asked,
        }

    def start(self, now: float) -> list[Effect]:
        """The first workers."""
        self._start_workers(now)
        effects, self._effects = self._effects, []
        return effects

    def handle(self, events: Iterable[Event], now: float) -> list[Effect]:
        """Take note of events, in their order; then decide, once for them all, what has to be done, in order."""
        for event in events:
            self._handlers[type(event)](event, now)
        if self.fleet.missing:
            self._start_workers(now)
        waits_for_room = self.short and self.busy()
        if not waits_for_room:
            self.fleet.reserved = None
            if self.backlog.waiting:
                self._fill(now)
            if self.streams.may_pull():
                self.streams.pull()
        if self.closing:
            self._leave()
        effects, self._effects = self._effects, []
        return effects

    def is_running(self, stream: int, number: int) -> bool:
        """Is this the call that some worker is in, as far as has been told?"""
        for worker in self.fleet.workers.values():
            for crowd in worker.crowds():
                if crowd.piece.stream == stream and crowd.is_running(number - crowd.piece.first):
                    return True
            if not worker.many and worker.is_in(stream, number):
                return (sent := worker.current()) is not None and worker.loaded == sent.number
        return False

    def busy(self) -> bool:
        """Is any call with a worker?"""
        for worker in self.fleet.workers.values():  # noqa: SIM110  asked so often that a generator would be seen
            if worker.spans:
                return True
        return False

    def has_waiting(self, lane: int) -> bool:
        """Do calls of this lane wait for a worker?"""
        return lane in self.backlog.waiting

    def _do(self, effect: Effect) -> None:
        self._effects.append(effect)

    # ------------------------------------------------------------------------------------------ streams

    def _on_opened(self, event: Opened, now: float) -> None:
        self.has_many |= event.many
        self.streams.open(event, self.over)

    def _on_drain_asked(self, event: DrainAsked, now: float) -> None:
        stream = self.streams.by_number.get(event.stream)
        if stream is None:
            return
        self.streams.stop_pulling(stream)
        if event.drop:
            self._stop(stream, Ending(FaultKind.CANCELLED))

    def _stop(self, stream: Stream, ending: Ending) -> None:
        """End a stream before its time: all its calls that have not begun."""
        self.streams.stop(stream, ending)
        for worker in self.fleet.workers.values():
            if any(sent.piece.stream == stream.opened.stream for sent in worker.spans.values()):
                self._take_back(worker)

    # ------------------------------------------------------------------------------------------ sending

    def _fill(self, now: float) -> None:
        """Give waiting calls to workers that have room."""
        passed_over: list[Lane] = []
        while (lane := self._next_lane(passed_over)) is not None:
            if not self._is_many(lane):
                if not self._hand_out(passed_over, now):
                    return
                continue
            chosen = self.crowds.choose(lane)
            if chosen is not None:
                worker, size = chosen
                self._send(lane, worker, 1 if self.short else size, now)
                if self.short:
                    return
            elif self.crowds.wants_to_be_apart(lane):
                passed_over.append(lane)  # until a worker is empty; the others need not wait for that
            else:
                return

    def _next_lane(self, passed_over: list[Lane]) -> Lane | None:
        """The lane whose turn it is, of those that need not wait."""
        while (lane := self.backlog.next_lane(passed_over)) is not None and self.streams.is_full(lane):
            passed_over.append(lane)
        return lane

    def _is_many(self, lane: Lane) -> bool:
        return self.has_many and self.streams.of(lane.pieces[0]).opened.many

    def _hand_out(self, passed_over: list[Lane], now: float) -> bool:
        """Calls that run one after another: the idle workers first. False when no more can be sent."""
        for depth in range(WINDOW):
            for worker in self.fleet.room(depth):
                lane = self._next_lane(passed_over)
                if lane is None:
                    return False
                if self._is_many(lane):
                    return True
                if depth == 0 or self._tiny(worker, lane):
                    self._send(lane, worker, self._packet(lane), now)
                    if self.short:
                        return False
        lane = self._next_lane(passed_over)
        return lane is not None and self._is_many(lane)

    def _tiny(self, worker: Worker, lane: Lane) -> bool:
        """Is the work at hand so short that a worker should hold a second packet?"""
        first = next(iter(worker.spans.values()))
        for function in (first.function, self.streams.of(lane.pieces[0]).opened.function):
            seconds = self.batching.of(function).seconds
            if seconds is None or seconds > SHARED:
                return False
        return self.fleet.capacity(worker) > 0

    def _packet(self, lane: Lane) -> int:
        head = lane.pieces[0]
        stream = self.streams.of(head)
        remaining = stream.remaining()
        if remaining is not None:
            remaining += lane.waiting
        size = self.streams.packet(stream, head.weight, remaining)
        return _even(head.count, size) if stream.opened.chunk is None else size

    def _send(self, lane: Lane, worker: Worker, size: int, now: float) -> None:
        piece = self.backlog.take(lane, min(size, self.fleet.capacity(worker)))
        stream = self.streams.of(piece)
        function, many = stream.opened.function, stream.opened.many
        expected = self.batching.expected(function, piece.count)
        self.backlog.charge(piece.stream, expected)
        self._span += 1
        if not worker.spans:
            worker.since = worker.span_since = now
            worker.patience = LONG
        worker.many = many
        if many:
            crowd = worker.spans[self._span] = Crowd(self._span, piece, function, expected)
            self.crowds.sent(worker, crowd, stream, now)
        else:
            worker.apart = False
            worker.spans[self._span] = Sent(self._span, piece, function, expected)
        worker.calls += piece.count
        number = worker.number
        self._do(Send(number, self._span, piece.stream, piece.first, piece.items, piece.offset, piece.count, many))

    # ------------------------------------------------------------------------------- what workers tell

    def _on_worker_ready(self, event: WorkerReady, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is not None:
            worker.ready = True
            self.fleet.start_failures = 0

    def _on_begun(self, event: Begun, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None:
            return
        if worker.many:
            self.crowds.on_begun(worker, event, now)
        elif worker.loaded < event.span:
            worker.loaded = event.span
            worker.since = now

    def _on_recorded(self, event: Recorded, now: float) -> None:
        worker, sent = self._find(event.worker, event.span)
        if worker is None or sent is None:
            return
        self._moved(worker, now)
        stream = self.streams.of(sent.piece)
        self.fleet.deaths = stream.deaths = 0
        for run in event.runs:
            if isinstance(sent, Crowd):
                at = run.first - sent.piece.first
                self._conclude(sent, at, self.crowds.on_recorded(worker, sent, run, now), stream, now)
                continue
            at, sent.recorded = sent.recorded, sent.recorded + run.count
            assert run.first == sent.piece.first + at, f"{run} after {at} calls of {sent.piece}"
            assert sent.recorded <= sent.limit, f"{run} ran, and was taken back"
            self._conclude(sent, at, run, stream, now)
        if sent.recorded == sent.limit:
            worker.span_since = now
        if self.streams.is_heavy() and stream.window is not None:
            self._hold_back(stream)

    def _hold_back(self, stream: Stream) -> None:
        """Its outcomes take all memory that they may: those of calls that have not begun are to come later."""
        for worker in self.fleet.workers.values():
            behind = worker.waiting if worker.many else self._behind(worker) > 1
            if behind and any(sent.piece.stream == stream.opened.stream for sent in worker.spans.values()):
                self._take_back(worker)

    def _conclude(self, sent: Sent, at: int, outcome: Run | Fault, stream: Stream, now: float) -> None:
        if isinstance(outcome, Run):
            if outcome.ok:
                self.batching.learn_bytes(sent.function, outcome.count, outcome.nbytes)
            outcome.attempt = stream.attempt(outcome.first)
        self.streams.conclude(sent.piece.cut(at, at + outcome.count), outcome, now)

    def _on_span_ended(self, event: SpanEnded, now: float) -> None:
        worker, sent = self._find(event.worker, event.span)
        if worker is None or sent is None:
            return
        assert event.ran == sent.recorded, f"span {event.span}: {event.ran} ran, {sent.recorded} recorded"
        self._moved(worker, now)
        worker.span_since = now
        del worker.spans[event.span]
        self.backlog.charge(sent.piece.stream, event.seconds - sent.expected)
        if event.ran:
            self.batching.learn(sent.function, event.ran, event.seconds)
        self._unsend(worker, sent, event.ran)
        if self.fleet.capacity(worker) <= 0 and not worker.spans:
            self._retire(worker)

    def _on_cut(self, event: Cut, now: float) -> None:
        worker, sent = self._find(event.worker, event.span)
        if worker is not None and sent is not None:
            self._unsend(worker, sent, event.begun)

    def _find(self, number: int, span: int) -> tuple[Worker | None, Sent | None]:
        worker = self.fleet.workers.get(number)
        return worker, None if worker is None else worker.spans.get(span)

    def _moved(self, worker: Worker, now: float) -> None:
        worker.patience = LONG if now < worker.since + LONG else SOONER
        worker.since = now
        worker.stuck = False
        worker.to_end = None

    def _unsend(self, worker: Worker, sent: Sent, start: int) -> None:
        """The calls of a span from `start` on were not begun, and wait again."""
        if start < sent.limit:
            piece = sent.piece.cut(start, sent.limit)
            if isinstance(sent, Crowd):
                self.crowds.unsent(worker, sent, start)
            sent.limit = start
            worker.calls -= piece.count
            self.streams.wait(piece)

    # ------------------------------------------------------- taking back, cancelling, ending a running call

    def _take_back(self, worker: Worker) -> None:
        if not worker.being_taken_back:
            worker.being_taken_back = True
            self._do(TakeBack(worker.number))

    def _on_cancel_asked(self, event: CancelAsked, now: float) -> None:
        for worker in self.fleet.workers.values():
            for sent in worker.spans.values():
                if sent.piece.stream == event.stream and sent.is_open(event.number - sent.piece.first):
                    worker.questions.append(event)
                    self._take_back(worker)
                    return
        self._answer(event, None, now)

    def _answer(self, question: CancelAsked, worker: Worker | None, now: float) -> None:
        """Answer, now that it is known what `worker` is in and that all else waits."""
        stream, number = question.stream, question.number
        yes = self.streams.cancel(stream, number)
        if not yes and question.kill and worker is not None:
            yes = self._end_call(worker, stream, number, now)
            if yes:
                self.streams.by_number[stream].killed.add(number)
        self._do(Answer(question.ticket, yes))

    def _end_call(self, worker: Worker, stream: int, number: int, now: float) -> bool:
        """End a call that runs, or may be about to. False if it has ended."""
        for crowd in worker.crowds():
            at = number - crowd.piece.first
            if crowd.piece.stream == stream and crowd.is_open(at):
                self.crowds.end_call(worker, crowd, at, FaultKind.KILLED, now)
                return True
        if worker.many or not worker.is_in(stream, number):
            return False
        worker.to_end = (stream, number, FaultKind.KILLED)
        return True

    def _on_taken_back(self, event: TakenBack, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None:
            return
        for sent in reversed(worker.spans.values()):
            begun = sent.begun if isinstance(sent, Crowd) else sent.recorded
            self._unsend(worker, sent, max(event.limits.get(sent.number, sent.limit), begun))
        if worker.stuck and not worker.many and self.backlog.waiting and not any(self.fleet.room(0)):
            self._make_room()
        questions, worker.questions = worker.questions, []
        for question in questions:
            self._answer(question, worker, now)
        worker.being_taken_back = False  # not earlier: who is to be killed by the answers, need not be asked again
        if worker.kill_wanted and (why := self.crowds.kill_reason(worker)) is not None:
            self._kill(worker, why)
        if worker.to_end is not None:
            stream, number, kind = worker.to_end
            worker.to_end = None
            if worker.is_in(stream, number):
                self._kill(worker, kind)

    def _make_room(self) -> None:
        """What stood behind a long call is next, and not to wait for all that another worker has at hand."""
        at_hand = {
            worker: sum(sent.expected for sent in worker.spans.values())
            for worker in self.fleet.workers.values()
            if not worker.many and self.fleet.is_open(worker)
        }
        most = max(at_hand, key=at_hand.__getitem__, default=None)
        if most is not None and at_hand[most] > WINDOW * SHARED:
            self._take_back(most)

    def _end_current(self, worker: Worker, kind: str) -> None:
        """End the call that this worker is in, and no other: first take back all that stands behind it."""
        sent = worker.current()
        if sent is not None and worker.killed_for is None and worker.to_end is None:
            worker.to_end = (sent.piece.stream, sent.piece.first + sent.recorded, kind)
            self._take_back(worker)

    def _kill(self, worker: Worker, kind: str) -> None:
        if worker.killed_for is None:
            worker.killed_for = kind
            self.fleet.dismiss(worker)
            self._do(KillWorker(worker.number))

    # ---------------------------------------------------------------------------------------------- time

    def wake_at(self) -> float | None:
        """When `Tick` is due, if nothing else happens."""
        times = [] if (due := self.backlog.next_due()) is None else [due]
        for worker in self.fleet.workers.values():
            if (deadline := self._start_deadline(worker)) is not None:
                times.append(deadline)
            if not worker.spans or worker.killed_for is not None:
                continue
            if worker.many:
                if not worker.held:
                    times.append(worker.since + HUNG)
                elif worker.waiting and not worker.stuck:
                    times.append(worker.since + LONG)
                continue
            current = worker.current()
            if current is None:
                times.append(worker.since + HUNG)
                continue
            if not worker.stuck:
                times.append(min(worker.since + worker.patience, worker.span_since + self._patience(worker, current)))
            if (deadline := self._deadline(worker, current)) is not None:
                times.append(deadline)
        if self.fleet.missing and self._wants_workers():
            times.append(self.fleet.not_before)
        if self.has_many and (due := self.crowds.next_due()) is not None:
            times.append(due)
        return min(times, default=None)

    def _on_tick(self, event: Tick, now: float) -> None:
        self.streams.wake(now)
        self.crowds.on_time(now)
        for worker in self.fleet.workers.values():
            deadline = self._start_deadline(worker)
            if deadline is not None and now >= deadline:
                self._kill(worker, FaultKind.TIMEOUT)
            if not worker.spans or worker.killed_for is not None:
                continue
            if worker.many:
                self._look_after(worker, now)
                continue
            current = worker.current()
            if current is None:
                if now >= worker.since + HUNG:
                    self._kill(worker, FaultKind.TIMEOUT)
                continue
            deadline = self._deadline(worker, current)
            if deadline is not None and now >= deadline:
                self._end_current(worker, FaultKind.TIMEOUT)
            elif self._is_late(worker, current, now):
                self._take_back(worker)

    def _look_after(self, worker: Worker, now: float) -> None:
        """What waits in a worker that runs many calls, and could run in another, is taken back."""
        if not worker.held:
            if now >= worker.since + HUNG:
                self._kill(worker, FaultKind.TIMEOUT)
        elif worker.waiting and now >= worker.since + LONG:
            worker.since = now
            if worker.held - worker.waiting < self.crowds.places:  # it has room, and does not begin them
                worker.stuck = True
                self._take_back(worker)
            elif self.backlog.next_lane() is None and self.crowds.has_a_place():
                self._take_back(worker)

    def _start_deadline(self, worker: Worker) -> float | None:
        if worker.ready or worker.dead or worker.killed_for is not None or self.start_timeout is None:
            return None
        return worker.since + self.start_timeout

    def _deadline(self, worker: Worker, sent: Sent) -> float | None:
        timeout = self.streams.of(sent.piece).opened.timeout
        if timeout is None or worker.dead:
            return None
        loading = sent.recorded == 0 and worker.loaded != sent.number
        return worker.since + timeout + (LOADING if loading else 0.0)

    def _is_late(self, worker: Worker, sent: Sent, now: float) -> bool:
        """Is anything kept waiting: behind a long call, in a worker that does not take it up, or in a long packet?"""
        if now >= worker.since + worker.patience:
            worker.stuck = True
            return self._behind(worker) > 1 or worker.loaded != sent.number
        if now < worker.span_since + self._patience(worker, sent):
            return False
        worker.span_since = now
        return True

    def _behind(self, worker: Worker) -> int:
        """Calls in a worker that runs one after another, and that have no outcome."""
        return sum(sent.limit - sent.recorded for sent in worker.spans.values())

    def _patience(self, worker: Worker, sent: Sent) -> float:
        """Seconds after which what stands behind in this packet is taken back: as long as nobody would gain, never."""
        if self._behind(worker) <= 1:
            return math.inf
        if not self.backlog.waiting:
            return LONG if any(self.fleet.room(0)) else math.inf
        own = self.streams.of(sent.piece).opened.lane
        return SOONER if any(lane != own for lane in self.backlog.waiting) else math.inf

    # --------------------------------------------------------------------------------- deaths and starts

    def _on_worker_dead(self, event: WorkerDead, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is not None:
            worker.dead = True

    def _on_worker_lost(self, event: WorkerLost, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None:
            return
        self.fleet.lose(worker, event.killed, now)
        if worker.many:
            self._lose_crowds(worker, event, now)
        else:
            self._lose_series(worker, event, now)
        for question in worker.questions:
            self._answer(question, None, now)
        if self.over is None and self.fleet.cannot_start():
            self._do(GiveUp(event.how))
            self._end_all(Ending(FaultKind.GAVE_UP, event.how))

    def _lose_series(self, worker: Worker, event: WorkerLost, now: float) -> None:
        """The call that it was in ends; all behind that waits again."""
        for sent in reversed(worker.spans.values()):
            started = sent.number == event.begun and sent.recorded < sent.limit
            self._unsend(worker, sent, sent.recorded + started)
            if started:
                self._blame(worker, sent, event.how, now)

    def _lose_crowds(self, worker: Worker, event: WorkerLost, now: float) -> None:
        """What had not begun waits again; what ran ends."""
        faults = self.crowds.blame(worker, event.begun, event.how)
        # Also those that were taken back from it while it failed to begin, however long it took for that
        held = {
            stream
            for crowd in worker.crowds()
            if crowd.begun < crowd.limit or not crowd.loaded
            if (stream := self.streams.by_number.get(crowd.piece.stream)) is not None
        }
        for crowd in worker.crowds():
            self._unsend(worker, crowd, max(crowd.begun, *(at + 1 for one, at, _ in faults if one is crowd), 0))
        deadly: set[Stream] = set()
        if not (faults or event.killed or worker.leaving):  # it failed before any could begin, and so may the next
            deadly = held
            for stream in deadly:
                stream.deaths += DEADLY // FAILURES
        for crowd, at, fault in faults:
            stream = self.streams.of(crowd.piece)
            if fault.kind == FaultKind.DIED and stream not in deadly:
                deadly.add(stream)
                stream.deaths += 1
            self.streams.conclude(crowd.piece.cut(at, at + 1), fault, now)
        for stream in deadly:
            if stream.deaths >= DEADLY:
                self._stop(stream, Ending(FaultKind.GAVE_UP, event.how))

    def _blame(self, worker: Worker, sent: Sent, how: object, now: float) -> None:
        """The call that a dead worker was in: it alone fails."""
        stream, piece = self.streams.of(sent.piece), sent.piece.cut(sent.recorded, sent.recorded + 1)
        fault = self.streams.fault(piece, 0, worker.killed_for or FaultKind.DIED, how)
        self.backlog.charge(piece.stream, now - worker.since)
        if worker.killed_for is None:
            stream.deaths += 1
        self.streams.conclude(piece, fault, now)
        if stream.deaths >= DEADLY:
            self._stop(stream, Ending(FaultKind.GAVE_UP, how))

    def _end_sent(self, worker: Worker, sent: Sent, ending: Ending) -> None:
        if not isinstance(sent, Crowd):
            self._unsend(worker, sent, sent.recorded)
            return
        self._unsend(worker, sent, sent.begun)
        for at in sent.running():
            self.streams.end_like(sent.piece.cut(at, at + 1), ending)

    def _wants_workers(self) -> bool:
        if self.over is not None or self.fleet.missing <= 0:
            return False
        return not self.closing or self.streams.running > 0

    def _start_workers(self, now: float) -> None:
        if self._wants_workers() and now >= self.fleet.not_before:
            for _ in range(self.fleet.missing):
                self._do(StartWorker(self.fleet.start(now).number))

    def _retire(self, worker: Worker) -> None:
        if not worker.leaving:
            self.fleet.dismiss(worker)
            self._do(RetireWorker(worker.number))

    def _end_all(self, ending: Ending) -> None:
        """Every call ends now, the running ones too, and so do the workers."""
        self.over = ending
        for stream in list(self.streams.by_number.values()):
            self.streams.stop(stream, ending)
        for worker in self.fleet.workers.values():
            for sent in worker.spans.values():
                self._end_sent(worker, sent, ending)
            worker.spans.clear()
            self._kill(worker, ending.kind)

    # ------------------------------------------------------------------------------------------- memory

    def _on_memory_seen(self, event: MemorySeen, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None or worker.dead or self.memory_limit is None or event.nbytes <= self.memory_limit:
            return
        if worker.many and worker.held:
            self.crowds.want_kill(worker, FaultKind.MEMORY)
        elif worker.spans:
            self._end_current(worker, FaultKind.MEMORY)
        elif worker.ready:
            self._retire(worker)

    def _on_memory_short(self, event: MemoryShort, now: float) -> None:
        self.short = event.short
        for worker in self.fleet.workers.values():
            if event.short and worker.waiting:
                self._take_back(worker)

    # ------------------------------------------------------------------------------------------- the end

    def _on_close_asked(self, event: CloseAsked, now: float) -> None:
        self.closing = True
        if event.cancel:
            for stream in list(self.streams.by_number.values()):
                self._stop(stream, Ending(FaultKind.CANCELLED))

    def _on_terminate_asked(self, event: TerminateAsked, now: float) -> None:
        self.closing = True
        self._end_all(Ending(FaultKind.TERMINATED))

    def _leave(self) -> None:
        """The pool is closing: when nothing is left to do, let the workers go."""
        if self.streams.running or self.ended:
            return
        for worker in self.fleet.workers.values():
            if not worker.ready:
                self._kill(worker, FaultKind.TERMINATED)
            elif not worker.spans:
                self._retire(worker)
        if not self.fleet.workers:
            self.ended = True
            self._do(Ended())


def _even(count: int, most: int) -> int:
    """Split into as few parts as possible, none over `most`, and these as equal as possible: the largest's size."""
    parts = -(-count // most)
    return -(-count // parts)
