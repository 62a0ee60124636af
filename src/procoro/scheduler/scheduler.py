"""Which call goes where, and how each one ends.

A call is in one place at a time, and moves only like this:

    waiting    in the backlog (in a lane, or put off for a retry)
      -> sent       in a span that a worker holds
      -> ended      cancelled, or the pool is over
    sent       the worker may begin it at any moment
      -> waiting    taken back, or its worker died before it was begun; or it failed and is to be retried
      -> ended      its outcome was recorded, or its worker died in it
    ended      delivered; nothing may follow

A call that is sent moves back to waiting only on proof that it was not begun: a `TakenBack`, a `SpanEnded` or a
`WorkerLost`, each told after all that the worker had recorded. So no call is started twice, and since every way
out of a place leads into another, none is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from procoro.calls import Fault, FaultKind, Piece, Run
from procoro.scheduler.backlog import MOST_BYTES as MOST_PULLED_BYTES
from procoro.scheduler.backlog import Backlog, Lane, Stream
from procoro.scheduler.batching import TARGET, Batching
from procoro.scheduler.fleet import START_FAILURES, WINDOW, Fleet, Sent, Worker
from procoro.scheduler.messages import (
    Answer,
    Begun,
    Cancelled,
    CloseAsked,
    Consumed,
    Deliver,
    Detached,
    Drained,
    Effect,
    Ended,
    Event,
    Exhausted,
    GiveUp,
    KillWorker,
    MemorySeen,
    MemoryShort,
    Opened,
    Pull,
    Recorded,
    RetireWorker,
    Send,
    SpanEnded,
    StartWorker,
    StopPulling,
    StreamEnded,
    Supplied,
    TakeBack,
    TakenBack,
    TerminateAsked,
    Tick,
    Unbounded,
    WorkerLost,
    WorkerReady,
)

LONG = 0.02  # seconds: what stands behind a call or a packet that runs longer is taken back
LOADING = 10.0  # seconds granted to load a function, before the first call's timeout counts
DEADLY = 100  # workers lost in a row to one stream, before it is given up
BACK_OFF = 0.1  # seconds before the first retry, doubled for each that follows
LONGEST_BACK_OFF = 30.0


class Scheduler:
    """The state of one pool. `handle` is the only door; times are seconds of the caller's clock.

    `size` workers are kept; `most_calls` is `maxtasksperchild`, `memory_limit` bytes of one worker.
    """

    def __init__(self, size: int, most_calls: int | None = None, memory_limit: int | None = None) -> None:
        self.fleet = Fleet(size, most_calls)
        self.backlog = Backlog()
        self.batching = Batching()
        self.memory_limit = memory_limit
        self.short = False  # of memory
        self.closing = False
        self.over: Fault | None = None  # terminated or given up: what every call ends with from now on
        self.ended = False
        self._span = 0
        self._effects: list[Effect] = []
        # Any: each handler takes one class of event, and the table is by class.
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            Opened: self._on_opened,
            Supplied: self._on_supplied,
            Exhausted: self._on_exhausted,
            Consumed: self._on_consumed,
            Detached: self._on_detached,
            Drained: self._on_drained,
            Unbounded: self._on_unbounded,
            Cancelled: self._on_cancelled,
            WorkerReady: self._on_worker_ready,
            Begun: self._on_begun,
            Recorded: self._on_recorded,
            SpanEnded: self._on_span_ended,
            TakenBack: self._on_taken_back,
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
        return self._take_effects()

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take note of an event; what has to be done about it, in order."""
        self._handlers[type(event)](event, now)
        self._fill(now)
        self._pull()
        self._leave(now)
        return self._take_effects()

    def wake_at(self) -> float | None:
        """When `Tick` is due, if nothing else happens."""
        times = [] if (due := self.backlog.next_due()) is None else [due]
        for worker in self.fleet.workers.values():
            if (current := worker.current()) is None or worker.doom is not None:
                continue
            if not worker.stuck:
                times.append(min(worker.since, worker.span_since + LONG) + LONG)
            if (deadline := self._deadline(worker, current)) is not None:
                times.append(deadline)
        if self._wants_workers():
            times.append(self.fleet.not_before)
        return min(times, default=None)

    def busy(self) -> bool:
        """Is any call with a worker?"""
        return any(worker.spans for worker in self.fleet.workers.values())

    def _take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    def _do(self, effect: Effect) -> None:
        self._effects.append(effect)

    # ------------------------------------------------------------------------------- streams and inputs

    def _on_opened(self, event: Opened, now: float) -> None:
        self.backlog.open(event)
        if self.over is not None:
            self._stop(self.backlog.streams[event.stream], self.over)

    def _on_supplied(self, event: Supplied, now: float) -> None:
        stream = self.backlog.streams[event.stream]
        count = len(event.items)
        first, weight = stream.supplied, event.nbytes / count
        stream.asked = 0
        stream.supplied += count
        stream.open_calls += count
        self.backlog.count_in(stream, count, event.nbytes)
        self._wait(Piece(event.stream, first, event.items, 0, count, weight), self.backlog.append)

    def _on_exhausted(self, event: Exhausted, now: float) -> None:
        stream = self.backlog.streams.get(event.stream)
        if stream is not None:
            stream.asked = 0
            stream.exhausted = True
            self._close_stream(stream)

    def _on_consumed(self, event: Consumed, now: float) -> None:
        stream = self.backlog.streams.get(event.stream)
        if stream is not None and not stream.detached:
            self.backlog.count_in(stream, -event.count, -event.nbytes)
            self._close_stream(stream)

    def _on_detached(self, event: Detached, now: float) -> None:
        stream = self.backlog.streams.get(event.stream)
        if stream is not None and not stream.detached:
            stream.detached = True
            delivered = stream.delivered - (stream.supplied - stream.items)
            self.backlog.count_in(stream, -max(delivered, 0), 0)
            self._close_stream(stream)

    def _on_drained(self, event: Drained, now: float) -> None:
        stream = self.backlog.streams.get(event.stream)
        if stream is None:
            return
        if event.drop:
            self._stop(stream, Fault(0, FaultKind.CANCELLED))
        else:
            self._stop_pulling(stream)

    def _on_unbounded(self, event: Unbounded, now: float) -> None:
        for stream in self.backlog.streams.values():
            self.backlog.count_in(stream, -stream.items, -stream.nbytes)
            stream.window = False

    def _stop_pulling(self, stream: Stream) -> None:
        """Whoever pulls closes the iterator and answers `Exhausted`; till then the stream stays open."""
        if not stream.exhausted and not stream.stopped:
            stream.stopped = True
            self._do(StopPulling(stream.opened.stream))

    def _stop(self, stream: Stream, ending: Fault) -> None:
        """End a stream before its time: what waits ends like `ending`, what runs may finish."""
        if stream.ending is None:
            stream.ending = ending
            self._stop_pulling(stream)
            for number in self.backlog.remove_all(stream.opened.stream):
                self._end_like(stream, number, ending)

    def _end_like(self, stream: Stream, number: int, ending: Fault) -> None:
        self._finish(stream, Fault(number, ending.kind, ending.how, stream.attempts.get(number, 0) + 1))

    def _wait(self, piece: Piece, place: Callable[[Piece], None]) -> None:
        """Calls that now wait, unless their stream has been stopped."""
        stream = self.backlog.streams[piece.stream]
        if stream.ending is None:
            place(piece)
        else:
            for number in range(piece.first, piece.first + piece.count):
                self._end_like(stream, number, stream.ending)

    def _finish(self, stream: Stream, outcome: Run | Fault) -> None:
        """The one place where calls end."""
        stream.open_calls -= outcome.count
        for ready in stream.ready(outcome):
            stream.delivered += ready.count
            self._do(Deliver(stream.opened.stream, ready))
            if stream.detached:
                self.backlog.count_in(stream, -ready.count, 0)
        self._close_stream(stream)

    def _close_stream(self, stream: Stream) -> None:
        if not stream.exhausted or stream.open_calls:
            return
        if not stream.ended:
            stream.ended = True
            self._do(StreamEnded(stream.opened.stream))
        if not stream.window or stream.detached or stream.items <= 0:
            # Its bytes were estimates; what is left of them goes with it.
            self.backlog.count_in(stream, -stream.items, -stream.nbytes)
            self.backlog.forget(stream.opened.stream)

    # ------------------------------------------------------------------------------------------ sending

    def _fill(self, now: float) -> None:
        """Give waiting calls to workers that have room, the idle ones first."""
        if self.short and self.busy():
            return
        for depth in range(WINDOW):
            for worker in self.fleet.room(depth):
                lane = self.backlog.next_lane()
                if lane is None:
                    return
                if depth == 0 or self._tiny(worker, lane):
                    self._send(worker, lane, now)
                    if self.short:
                        return

    def _tiny(self, worker: Worker, lane: Lane) -> bool:
        """Is the work at hand so short that a worker should hold a second packet?"""
        for function in (worker.spans[0].function, self._function(lane.pieces[0])):
            seconds = self.batching.of(function).seconds
            if seconds is None or seconds > TARGET:
                return False
        return self.fleet.capacity(worker) > 0

    def _send(self, worker: Worker, lane: Lane, now: float) -> None:
        head = lane.pieces[0]
        piece = self.backlog.take(lane, min(self._size(head, lane), self.fleet.capacity(worker)))
        lane.served += max(self.batching.expected(self._function(piece), piece.count), 1e-6)
        self._span += 1
        if not worker.spans:
            worker.since = worker.span_since = now
        worker.spans.append(Sent(self._span, piece, self._function(piece)))
        worker.calls += piece.count
        self._do(
            Send(
                worker.number,
                self._span,
                piece.stream,
                piece.first,
                piece.items,
                piece.offset,
                piece.count,
            )
        )

    def _size(self, piece: Piece, lane: Lane) -> int:
        stream = self.backlog.streams[piece.stream]
        if stream.opened.chunk is not None:
            return stream.opened.chunk
        if piece.first in stream.attempts:
            return 1  # a call that has failed travels alone, so that it can hit no other
        remaining = stream.remaining()
        if remaining is not None:
            remaining += lane.waiting
        return self.batching.size(stream.opened.function, piece.weight, remaining, self.fleet.size)

    def _function(self, piece: Piece) -> object:
        return self.backlog.streams[piece.stream].opened.function

    def _pull(self) -> None:
        """Ask for the inputs that the workers will need next."""
        if self.short and self.busy():
            return
        for stream in self.backlog.streams.values():
            if stream.exhausted or stream.stopped or stream.asked or not stream.opened.pulled:
                continue
            opened, learnt = stream.opened, self.batching.of(stream.opened.function)
            size = opened.chunk or self.batching.size(opened.function, 0, None, self.fleet.size)
            tiny = learnt.seconds is not None and learnt.seconds <= TARGET
            at_hand = (WINDOW + 1 if tiny else 2) * self.fleet.size * size
            wanted, nbytes = at_hand - stream.open_calls, MOST_PULLED_BYTES
            if stream.window:
                items, nbytes = self.backlog.allowance(stream, floor=2 * self.fleet.size)
                wanted = min(wanted, items)
            if wanted > 0 and (wanted >= size or stream.open_calls == 0):
                stream.asked = wanted
                self._do(Pull(opened.stream, wanted, nbytes))

    # ------------------------------------------------------------------------------- what workers tell

    def _on_worker_ready(self, event: WorkerReady, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is not None:
            worker.ready = True
            self.fleet.start_failures = 0

    def _on_begun(self, event: Begun, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is not None and worker.loaded < event.span:
            worker.loaded = event.span
            worker.since = now

    def _on_recorded(self, event: Recorded, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        sent = None if worker is None else worker.find(event.span)
        if worker is None or sent is None:
            return
        self._moved(worker, now)
        stream = self.backlog.streams[sent.piece.stream]
        for run in event.runs:
            at, sent.recorded = sent.recorded, sent.recorded + run.count
            assert run.first == sent.piece.first + at, f"{run} after {at} calls of {sent.piece}"
            if run.ok:
                self.fleet.deaths = stream.deaths = 0
                self.batching.learn_bytes(stream.opened.function, run.count, run.nbytes)
            if stream.attempts:
                run.attempt = stream.attempts.get(run.first, 0) + 1
            self.backlog.count_in(stream, 0, run.nbytes - run.count * sent.piece.weight)
            self._conclude(stream, sent.piece.cut(at, at + run.count), run, now)

    def _on_span_ended(self, event: SpanEnded, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        sent = None if worker is None else worker.find(event.span)
        if worker is None or sent is None:
            return
        assert event.ran == sent.recorded, f"span {event.span}: {event.ran} ran, {sent.recorded} recorded"
        self._moved(worker, now)
        worker.span_since = now
        worker.spans.remove(sent)
        if event.ran:
            self.batching.learn(sent.function, event.ran, event.seconds)
        if event.ran < sent.limit:
            self._unsend(worker, sent, event.ran)
        if self.fleet.capacity(worker) <= 0 and not worker.spans:
            self._retire(worker)
            self._start_workers(now)

    def _moved(self, worker: Worker, now: float) -> None:
        worker.since = now
        worker.stuck = False
        worker.sentence = None

    def _unsend(self, worker: Worker, sent: Sent, start: int) -> None:
        """The calls of a span from `start` on were not begun, and wait again."""
        piece = sent.piece.cut(start, sent.limit)
        sent.limit = start
        worker.calls -= piece.count
        self._wait(piece, self.backlog.put_back)

    def _conclude(self, stream: Stream, piece: Piece, outcome: Run | Fault, now: float) -> None:
        """A call has failed or a run of calls is done: retry it, or let it end."""
        failed = isinstance(outcome, Fault) or not outcome.ok
        attempt = outcome.attempt
        if failed and attempt <= stream.opened.retries and stream.ending is None:
            stream.attempts[outcome.first] = attempt
            back_off = min(BACK_OFF * 2 ** (attempt - 1), LONGEST_BACK_OFF)
            self.backlog.put_off(piece, now + back_off)
        else:
            if stream.attempts:
                stream.attempts.pop(outcome.first, None)
            self._finish(stream, outcome)

    # ------------------------------------------------------- taking back, cancelling, ending a running call

    def _on_cancelled(self, event: Cancelled, now: float) -> None:
        if self._cancel_waiting(event):
            return
        for worker in self.fleet.workers.values():
            for sent in worker.spans:
                at = event.number - sent.piece.first
                if sent.piece.stream == event.stream and sent.recorded <= at < sent.limit:
                    worker.questions.append(event)
                    self._do(TakeBack(worker.number))
                    return
        self._do(Answer(event.ticket, False))

    def _cancel_waiting(self, event: Cancelled) -> bool:
        stream = self.backlog.streams.get(event.stream)
        if stream is None or not self.backlog.remove(event.stream, event.number):
            return False
        self._end_like(stream, event.number, Fault(0, FaultKind.CANCELLED))
        self._do(Answer(event.ticket, True))
        return True

    def _on_taken_back(self, event: TakenBack, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None:
            return
        for sent in reversed(worker.spans):
            limit = event.limits.get(sent.number, sent.limit)
            if limit < sent.limit:
                self._unsend(worker, sent, max(limit, sent.recorded))
        questions, worker.questions = worker.questions, []
        for question in questions:
            if not self._cancel_waiting(question):
                running = question.kill and self._is_in(worker, question.stream, question.number)
                if running:
                    worker.sentence = (question.stream, question.number, FaultKind.KILLED)
                self._do(Answer(question.ticket, running))
        self._execute(worker)

    def _is_in(self, worker: Worker, stream: int, number: int) -> bool:
        sent = worker.current()
        return (
            sent is not None and sent.piece.stream == stream and sent.piece.first + sent.recorded == number
        )

    def _condemn(self, worker: Worker, kind: str) -> None:
        """End the call that this worker is in, and no other: first take back all that stands behind it."""
        sent = worker.current()
        if sent is not None and worker.doom is None and worker.sentence is None:
            worker.sentence = (sent.piece.stream, sent.piece.first + sent.recorded, kind)
            self._do(TakeBack(worker.number))

    def _execute(self, worker: Worker) -> None:
        if worker.sentence is not None and worker.doom is None:
            stream, number, kind = worker.sentence
            if self._is_in(worker, stream, number):
                self._kill(worker, kind)

    def _kill(self, worker: Worker, kind: str) -> None:
        if worker.doom is None:
            worker.doom = kind
            self._do(KillWorker(worker.number))

    # ---------------------------------------------------------------------------------------------- time

    def _on_tick(self, event: Tick, now: float) -> None:
        self.backlog.due(now)
        for worker in list(self.fleet.workers.values()):
            sent = worker.current()
            if sent is None or worker.doom is not None:
                continue
            deadline = self._deadline(worker, sent)
            if deadline is not None and now >= deadline:
                self._condemn(worker, FaultKind.TIMEOUT)
            elif self._is_late(worker, now):
                self._do(TakeBack(worker.number))
        self._start_workers(now)

    def _deadline(self, worker: Worker, sent: Sent) -> float | None:
        timeout = self.backlog.streams[sent.piece.stream].opened.timeout
        if timeout is None:
            return None
        loading = sent.recorded == 0 and worker.loaded != sent.number
        return worker.since + timeout + (LOADING if loading else 0.0)

    def _is_late(self, worker: Worker, now: float) -> bool:
        """Does anything stand behind a long call, or in a long packet while others have nothing to do?"""
        behind = sum(sent.limit - sent.recorded for sent in worker.spans) > 1
        if now >= worker.since + LONG:
            worker.stuck = True
            return behind
        if now >= worker.span_since + 2 * LONG:
            worker.span_since = now
            idle = any(True for _ in self.fleet.room(0))
            return behind and idle and self.backlog.next_lane() is None
        return False

    # --------------------------------------------------------------------------------- deaths and starts

    def _on_worker_lost(self, event: WorkerLost, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None:
            return
        was_ready = worker.ready
        self.fleet.lose(worker, event.killed, now)
        for sent in reversed(worker.spans):
            started = sent.number == event.begun and sent.recorded < sent.limit
            if sent.recorded + started < sent.limit:
                self._unsend(worker, sent, sent.recorded + started)
            if started:
                self._blame(worker, sent, event.how, now)
        for question in worker.questions:
            if not self._cancel_waiting(question):
                self._do(Answer(question.ticket, False))
        if not was_ready and not worker.retiring and self.fleet.start_failures >= START_FAILURES:
            self._give_up(event.how)
        self._start_workers(now)

    def _blame(self, worker: Worker, sent: Sent, how: object, now: float) -> None:
        """The call that a dead worker was in: it alone fails."""
        stream = self.backlog.streams[sent.piece.stream]
        number = sent.piece.first + sent.recorded
        attempt = stream.attempts.get(number, 0) + 1
        fault = Fault(number, worker.doom or FaultKind.DIED, how, attempt)
        fault.item = sent.piece.items[sent.piece.offset + sent.recorded]
        self._conclude(stream, sent.piece.cut(sent.recorded, sent.recorded + 1), fault, now)
        if worker.doom is None:
            stream.deaths += 1
            if stream.deaths >= DEADLY:
                self._stop(stream, Fault(0, FaultKind.GAVE_UP, how))

    def _wants_workers(self) -> bool:
        if self.over is not None or self.fleet.missing() <= 0:
            return False
        return not self.closing or bool(self.backlog.streams)

    def _start_workers(self, now: float) -> None:
        if self._wants_workers() and now >= self.fleet.not_before:
            for _ in range(self.fleet.missing()):
                self._do(StartWorker(self.fleet.start(now).number))

    def _retire(self, worker: Worker) -> None:
        worker.retiring = True
        self._do(RetireWorker(worker.number))

    def _give_up(self, how: object) -> None:
        self._end_all(Fault(0, FaultKind.GAVE_UP, how))
        self._do(GiveUp(how))

    def _end_all(self, ending: Fault) -> None:
        """Every call ends now, the running ones too, and so do the workers."""
        self.over = ending
        for stream in list(self.backlog.streams.values()):
            self._stop(stream, ending)
        for worker in self.fleet.workers.values():
            for sent in worker.spans:
                self._unsend(worker, sent, sent.recorded)
            worker.spans.clear()
            self._kill(worker, ending.kind)

    # ------------------------------------------------------------------------------------------- memory

    def _on_memory_seen(self, event: MemorySeen, now: float) -> None:
        worker = self.fleet.workers.get(event.worker)
        if worker is None or self.memory_limit is None or event.nbytes <= self.memory_limit:
            return
        if worker.current() is not None:
            self._condemn(worker, FaultKind.MEMORY)
        elif worker.ready and not worker.spans and not worker.retiring and worker.doom is None:
            self._retire(worker)
            self._start_workers(now)

    def _on_memory_short(self, event: MemoryShort, now: float) -> None:
        self.short = event.short

    # ------------------------------------------------------------------------------------------- the end

    def _on_close_asked(self, event: CloseAsked, now: float) -> None:
        self.closing = True

    def _on_terminate_asked(self, event: TerminateAsked, now: float) -> None:
        self.closing = True
        if self.over is None or self.over.kind != FaultKind.TERMINATED:
            self._end_all(Fault(0, FaultKind.TERMINATED))

    def _leave(self, now: float) -> None:
        """When the pool is closing and nothing is left to do, let the workers go."""
        if not self.closing or self.ended:
            return
        if all(stream.ended for stream in self.backlog.streams.values()):
            for worker in self.fleet.workers.values():
                if worker.ready and not worker.spans and not worker.retiring and worker.doom is None:
                    self._retire(worker)
                elif not worker.ready:
                    self._kill(worker, FaultKind.TERMINATED)
            if not self.fleet.workers:
                self.ended = True
                self._do(Ended())
