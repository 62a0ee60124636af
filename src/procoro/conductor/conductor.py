"""Turns one pool: performs what the scheduler asks for, and tells it what came of it.

Everything here runs in the crank's thread, except for what stands under "for every thread".
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from procoro import machine
from procoro.calls import Ending, Fault, FaultKind, Run
from procoro.conductor.loggers import hand_to_loggers
from procoro.conductor.sources import Source
from procoro.crank import Crank
from procoro.engines.local import LocalEngine
from procoro.engines.template import LINGER, TemplateProcess
from procoro.scheduler import Scheduler
from procoro.scheduler import messages as m
from procoro.sleeping import Flag
from procoro.wire.blocks import Spares
from procoro.wire.exceptions import Failure, pack_failure
from procoro.wire.handles import Handle
from procoro.wire.inputs import Inputs
from procoro.wire.library import Entry, Library
from procoro.wire.packer import Packer

logger = logging.getLogger("procoro")

AGAIN = 0.001  # seconds until what has to wait is tried again
SAMPLE = 0.1  # seconds between two looks at the workers' memory
SHORT = 0.04  # of the machine's memory: less than that left is too little
SHORT_BYTES = 200 * 1024 * 1024


class Sink(Protocol):
    """Who takes the outcomes of a stream. Called in the crank's thread: must not wait."""

    def deliver(self, outcome: Run | Fault) -> None:
        """Calls have ended."""

    def end(self, error: Fault | BaseException | None) -> None:
        """No more will come. `error`: what the input iterator raised, or why it was not pulled to its end."""

    def abort(self, ending: Fault | BaseException) -> None:
        """What has not been delivered never will be: it ends like this."""


class StreamSide:
    """What the conductor knows of a stream."""

    __slots__ = ("error", "finished", "function", "shape", "sink", "source")

    def __init__(self, function: Entry | None, shape: int, sink: Sink) -> None:
        self.function = function  # None: each call carries its own
        self.shape = shape
        self.sink = sink
        self.source: Source | None = None
        self.error: Fault | BaseException | None = None
        self.finished = False


class Conductor:
    """One pool's scheduler, engine and streams."""

    def __init__(
        self,
        template: TemplateProcess,
        size: int,
        most_calls: int | None,
        memory_limit: int | None,
        start_timeout: float | None,
        initializer: Initializer | None,
        model: str,
        places: int,
    ) -> None:
        self.ended = Flag()
        self.takes_calls = True  # until it is given up or has ended
        self.behind = False  # are there calls that could not be fetched so far?
        self._gathering: tuple[int, Callable[[], None]] | None = None  # the lane of calls that gather; fetches them
        can_end_calls = model != "threads"
        self._scheduler = Scheduler(size, most_calls, memory_limit, start_timeout, places, can_end_calls)
        self._events: deque[m.Event] = deque()
        self._streams: dict[int, StreamSide] = {}
        self._answers: dict[int, Callable[[bool], None]] = {}
        self._sample_at = 0.0
        self._short = False
        self._watches_limit = memory_limit is not None
        try:
            self.library = Library()
            try:
                self.crank = Crank.acquire()
            except BaseException:
                self.library.close()
                raise
        except BaseException:  # no descriptor, say
            template.release(None)
            raise
        try:
            spares = Spares(lambda: self.crank.post(self._engine.watch_spares))
            self.packer = Packer(self.library, spares)
            self._engine = LocalEngine(
                self.crank, self._events.append, hand_to_loggers, self.library, spares, template, model, places
            )
            if initializer is not None:
                self._engine.initializer = initializer(self.packer)
            self.crank.post(self._start)
        except BaseException:  # also a Ctrl-C
            self.crank.post(lambda: self._break_off(template))
            self.ended.wait()
            raise

    def _break_off(self, template: TemplateProcess) -> None:
        """Undo what a conductor that could not be made whole has made."""
        if hasattr(self, "_engine"):
            self._end()
        else:
            self.library.close()
            template.release(self.crank)
            self.crank.release()
            self.ended.set()

    @property
    def over(self) -> Ending | None:
        """How every call ends from now on, once the pool was terminated or given up."""
        return self._scheduler.over

    def _start(self) -> None:
        self.crank.add(self)
        try:
            self._perform(self._scheduler.start(self.crank.now()))
        except Exception as error:
            self.abort(error)
            raise

    # ---- for every thread

    def open(self, opened: m.Opened, function: Entry, shape: int, sink: Sink, source: Source | None) -> None:
        """Begin a stream, whose inputs `source` pulls."""
        self.crank.post(lambda: self._open(opened, StreamSide(function, shape, sink), source))

    def tell(self, event: m.Event) -> None:
        """Tell the scheduler something, behind the calls that were handed in before."""
        self.crank.post(lambda: self._told(event))

    def gather(self, lane: int, fetch: Callable[[], None]) -> None:
        """Call `fetch`, which takes calls that were handed in, as soon as none of their lane waits for a worker.

        Each fetch costs the crank as much as twenty calls. If it fetched few at a time while others wait, it would
        fall behind, keep the interpreter's lock from who hands them in, and so find but few the next time, too.
        """

        def begin() -> None:
            self._gathering = lane, fetch
            if self.ended.is_set():
                self._fetch()

        self.crank.post(begin)

    def supply(self, stream: int, items: Inputs, nbytes: int) -> None:
        """Inputs have been pulled."""
        self.crank.post(lambda: self._supplied(stream, items, nbytes))

    def finish(self, stream: int, error: BaseException | None) -> None:
        """The inputs are at their end."""
        self.crank.post(lambda: self._finished(stream, error))

    def ask(self, stream: int, number: int, kill: bool) -> bool:
        """Cancel (or kill) a call; whether it will end by that. Waits for the crank.

        In a callback, which runs in the crank's thread, it is not known yet: False, and it is tried soon.
        """
        if self.ended.is_set() or self.crank.forked:
            return False
        if self.crank.is_here():
            self.cancel_soon(stream, number, kill)
            return False
        answered = Flag()
        answer: list[bool] = []

        def take(yes: bool) -> None:
            answer.append(yes)
            answered.set()

        def cancel() -> None:
            if self.ended.is_set():
                take(False)
                return
            ticket = id(answered)
            self._answers[ticket] = take
            self._question(m.CancelAsked(ticket, stream, number, kill))

        self.crank.post(cancel)
        answered.wait()
        return answer[0]

    def cancel_soon(self, stream: int, number: int, kill: bool = False) -> None:
        """Cancel (or kill) a call; nobody waits for the answer."""
        self.crank.post(lambda: self._question(m.CancelAsked(0, stream, number, kill)))

    def is_running(self, stream: int, number: int) -> bool:
        """Is a worker in this call? Waits for the crank."""
        if self.ended.is_set() or self.crank.forked or self.crank.is_here():
            return False
        answered = Flag()
        answer: list[bool] = []

        def look() -> None:
            try:
                if not self.ended.is_set():
                    self._engine.look()
                    self._run_events(self.crank.now())
                    answer.append(self._scheduler.is_running(stream, number))
            finally:
                answered.set()

        self.crank.post(look)
        answered.wait()
        return answer == [True]

    # ---- what was posted, and calls that are to be fetched

    def open_whole(self, opened: m.Opened, function: Entry | None, shape: int, sink: Sink) -> None:
        """A stream whose inputs are all here. What is posted later finds it open."""
        self._open(opened, StreamSide(function, shape, sink), None)

    def _told(self, event: m.Event) -> None:
        self._fetch()
        self._events.append(event)

    def _fetch(self) -> None:
        gathering, self._gathering = self._gathering, None
        if gathering is not None:
            gathering[1]()

    def put_off(self, fetch: Callable[[], None]) -> None:
        """Calls cannot be fetched just now. Questions about them wait, too."""
        self.behind = True
        self.crank.call_later(AGAIN, fetch)

    def _question(self, event: m.CancelAsked) -> None:
        """The call may be among those that are still to be fetched."""
        self._fetch()
        if self.behind and event.stream not in self._streams and not self.ended.is_set():
            self.crank.call_later(AGAIN, lambda: self._question(event))
        else:
            self._events.append(event)

    # ---- the crank's turn

    def turn(self) -> float | None:
        """Handle all that has happened; when to come again."""
        now = self.crank.now()
        self._run_events(now)
        due = self._scheduler.wake_at()
        if due is not None and due <= now:
            self._engine.look()  # the scheduler never asks whether a call has started: it has been told
            self._run_events(now)
            self._perform(self._scheduler.handle((m.Tick(),), now))
            self._run_events(now)
            due = self._scheduler.wake_at()
        if self._scheduler.ended:
            return None
        if self._scheduler.busy():
            if now >= self._sample_at:
                self._engine.look()  # a function that took long to load may have begun unseen
                self._sample_memory(now)
                self._look_for_standstill()
            due = self._sample_at if due is None else min(due, self._sample_at)
        elif self._short:
            self._sample_memory(now)
            due = now + SAMPLE
        return due

    def _run_events(self, now: float) -> None:
        while True:
            while self._events:
                events = tuple(self._events)
                self._events.clear()
                self._perform(self._scheduler.handle(events, now))
            if self._gathering is None or self._scheduler.has_waiting(self._gathering[0]):
                return
            self._fetch()

    def _perform(self, effects: list[m.Effect]) -> None:
        for effect in effects:
            if type(effect) is m.Deliver:
                self._streams[effect.stream].sink.deliver(effect.outcome)
            elif type(effect) is m.Send:
                self._send(effect)
            elif type(effect) is m.Pull:
                source = self._streams[effect.stream].source
                assert source is not None
                source.pull(effect.count, effect.nbytes)
            else:
                self._perform_rare(effect)

    def _perform_rare(self, effect: m.Effect) -> None:
        match effect:
            case m.StreamEnded():
                side = self._streams.pop(effect.stream)
                side.sink.end(side.error)
                del side
                self.library.give_back()
            case m.TakeBack():
                self._engine.take_back(effect.worker)
            case m.EndCall():
                self._engine.end_call(effect.worker, effect.span, effect.call)
            case m.StartWorker():
                self._engine.start(effect.worker)
            case m.KillWorker():
                self._engine.kill(effect.worker)
            case m.RetireWorker():
                self._engine.retire(effect.worker)
            case m.Answer():
                self._answers.pop(effect.ticket, _nobody)(effect.yes)
            case m.StopPulling():
                self._stop_pulling(effect)
            case m.GiveUp():
                self.takes_calls = False
                logger.error("procoro: no worker can be started, the pool is given up")
            case m.Ended():
                self._end()

    def _stop_pulling(self, effect: m.StopPulling) -> None:
        side = self._streams[effect.stream]
        side.error = effect.ending
        if side.source is not None:
            side.source.stop(drop=effect.ending is not None)
        else:
            self._finished(effect.stream, None)

    def _send(self, effect: m.Send) -> None:
        side = self._streams[effect.stream]
        items: Any = effect.items
        if effect.offset or effect.count != len(items):
            items = items[effect.offset : effect.offset + effect.count]
        try:
            self._engine.send(effect.worker, effect.span, effect.first, side.function, side.shape, items, effect.many)
        except OSError as error:  # no descriptor, no memory: these calls fail, by that name
            failed = [Run(effect.first + at, 1, False, 0, Failure(pack_failure(error))) for at in range(effect.count)]
            self._events.append(m.Recorded(effect.worker, effect.span, failed))
            self._events.append(m.SpanEnded(effect.worker, effect.span, effect.count, 0.0))

    def _open(self, opened: m.Opened, side: StreamSide, source: Source | None) -> None:
        over = self._scheduler.over
        if over is not None or self.ended.is_set():  # it came to its end between its door and here
            side.sink.abort(over or Ending(FaultKind.TERMINATED))
            return
        side.source = source
        self._streams[opened.stream] = side
        self._events.append(opened)

    def _supplied(self, stream: int, items: Inputs, nbytes: int) -> None:
        side = self._streams.get(stream)
        if side is not None and not side.finished:
            self._events.append(m.Supplied(stream, items, nbytes))

    def _finished(self, stream: int, error: BaseException | None) -> None:
        side = self._streams.get(stream)
        if side is not None and not side.finished:
            side.finished = True
            side.error = error or side.error
            self._events.append(m.Exhausted(stream))

    def _end(self) -> None:
        self.takes_calls = False
        self._engine.close()
        self.crank.remove(self)
        self.library.close()
        self.ended.set()
        self._fetch()
        for answer in self._answers.values():
            answer(False)
        self.crank.call_later(LINGER, self.crank.release)

    def abort(self, error: BaseException) -> None:
        """As in `Turned`."""
        for side in self._streams.values():
            side.sink.abort(error)
        self._streams.clear()
        for number in self._engine.workers():
            self._engine.kill(number)
        self._end()

    # ---- memory

    def _sample_memory(self, now: float) -> None:
        self._sample_at = now + SAMPLE
        for number in self._engine.workers():
            held = self._engine.memory(number)
            if self._watches_limit:
                self._events.append(m.MemorySeen(number, held))
        left, total = machine.memory_left()
        short = left < min(SHORT * total, SHORT_BYTES)
        if short != self._short:
            self._short = short
            if short:
                logger.warning(
                    "procoro: %.0f MiB of memory left: no new call is started until there is room",
                    left / 2**20,
                )
            self._events.append(m.MemoryShort(short))
        self._run_events(now)

    def _look_for_standstill(self) -> None:
        for pid, seconds, stack in self._engine.standing(time.monotonic_ns()):
            logger.warning(
                "procoro: worker %d has not come back to its event loop for %.1f s, and all its calls wait: %s\n%s",
                pid,
                seconds,
                _blocking(stack),
                stack,
            )


def _blocking(stack: str) -> str:
    """The function that keeps an event loop, in words: the frame that the model has called."""
    frame = None
    for line in stack.splitlines():  # the most recent call first
        if "procoro/worker/" in line:
            break
        frame = line.strip() if line.startswith("  File") else frame
    return f"it is in {frame.rpartition(' in ')[2]}" if frame else "where it is, the stack tells"


Initializer = Callable[[Packer], tuple[bytes, list[Handle]]]


def _nobody(yes: bool) -> None:
    """Nobody waits for this answer."""
