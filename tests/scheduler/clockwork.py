"""A scheduler with workers that run like clockwork: each call takes the seconds that the test says, nothing fails.

For what is a matter of time: who is served when, how many calls travel together, what a long call delays.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from procoro.calls import Run
from procoro.scheduler import Scheduler
from procoro.scheduler import messages as m

NEVER = float("inf")
DELAY = 0.0001  # seconds from an effect to the worker, and from the worker back


class Span:
    def __init__(self, sent: m.Send, starts: list[float]) -> None:
        self.sent = sent
        self.starts = starts  # of its calls; one more: its end
        self.end = sent.count
        self.seen = 0

    def done(self, now: float) -> int:
        return min(sum(start <= now for start in self.starts[1:]), self.end)

    def over(self) -> float:
        return self.starts[self.end]


class Clockwork:
    """`run(until)` lets time pass. What happened stands in `began`, `delivered`, `sent` and `effects`."""

    def __init__(self, size: int, seconds: Callable[[int, int], float]) -> None:
        self.scheduler = Scheduler(size)
        self.seconds = seconds
        self.now = 0.0
        self.inputs: dict[int, int] = {}  # left, by stream
        self.began: dict[tuple[int, int], float] = {}
        self.delivered: dict[tuple[int, int], float] = {}
        self.sent: list[m.Send] = []
        self.effects: list[m.Effect] = []
        self.spans: dict[int, list[Span]] = {}
        self._agenda: list[tuple[float, int, int]] = []
        self._tie = 0
        self._carry_out(self.scheduler.start(self.now))
        for worker in range(1, size + 1):
            self.spans[worker] = []
            self.tell(m.WorkerReady(worker))

    # ---- users

    def submit(self, stream: int, count: int = 1, function: object = "f") -> None:
        self.tell(m.Opened(stream, 0, function, items=range(count), nbytes=8 * count))

    def map(self, stream: int, count: int, function: object = "f", **options: object) -> None:
        self.inputs[stream] = count
        self.tell(m.Opened(stream, stream, function, total=count, **options))

    # ---- time

    def run(self, until: float = NEVER) -> None:
        """Let time pass until then, or until nothing more will happen."""
        while True:
            tick = self.scheduler.wake_at()
            next_at = self._agenda[0][0] if self._agenda else NEVER
            if min(next_at, NEVER if tick is None else tick) >= until:
                self.now = self.now if until == NEVER else max(self.now, until)
                return
            if tick is not None and tick <= next_at:
                self.now = max(self.now, tick)
                for worker in self.spans:
                    self._read(worker)
                self.tell(m.Tick())
            else:
                self.now, _, worker = heapq.heappop(self._agenda)
                self._look(worker)

    def tell(self, event: m.Event) -> None:
        self._carry_out(self.scheduler.handle([event], self.now))

    def _carry_out(self, effects: list[m.Effect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            match effect:
                case m.Send():
                    self.sent.append(effect)
                    self._send(effect)
                case m.TakeBack(worker=worker):
                    self._take_back(worker)
                case m.Pull(stream=stream, count=count):
                    self._supply(stream, count)
                case m.Deliver(stream=stream, outcome=outcome):
                    for number in range(outcome.first, outcome.first + outcome.count):
                        assert (stream, number) not in self.delivered
                        self.delivered[stream, number] = self.now

    def _supply(self, stream: int, count: int) -> None:
        first = self.scheduler.streams.by_number[stream].supplied
        count = min(count, self.inputs[stream])
        self.inputs[stream] -= count
        if count:
            self.tell(m.Supplied(stream, range(first, first + count), 8 * count))
        if not self.inputs[stream]:
            self.tell(m.Exhausted(stream))

    # ---- workers

    def _send(self, sent: m.Send) -> None:
        spans = self.spans[sent.worker]
        at = max([self.now + DELAY] + [span.over() for span in spans])
        starts = [at]
        for number in range(sent.first, sent.first + sent.count):
            at += self.seconds(sent.stream, number)
            starts.append(at)
        spans.append(Span(sent, starts))
        self._ring(spans[-1])

    def _ring(self, span: Span) -> None:
        self._tie += 1
        heapq.heappush(self._agenda, (span.over() + DELAY, self._tie, span.sent.worker))

    def _read(self, worker: int) -> None:
        for span in self.spans[worker]:
            done = span.done(self.now)
            if done > span.seen:
                first = span.sent.first + span.seen
                for at in range(span.seen, done):
                    self.began[span.sent.stream, span.sent.first + at] = span.starts[at]
                run = Run(first, done - span.seen, True, 8 * (done - span.seen), None)
                span.seen = done
                self.tell(m.Recorded(worker, span.sent.span, [run]))

    def _look(self, worker: int) -> None:
        self._read(worker)
        spans = self.spans[worker]
        while spans and spans[0].over() <= self.now:
            span = spans.pop(0)
            seconds = span.over() - span.starts[0]
            self.tell(m.SpanEnded(worker, span.sent.span, span.seen, seconds))

    def _take_back(self, worker: int) -> None:
        self._read(worker)
        limits, over = {}, 0.0
        for span in self.spans[worker]:
            if span.starts[0] > self.now or over > self.now:
                shift = max(over, self.now) - span.starts[0]
                span.starts = [start + shift for start in span.starts]
                span.end = 0
            else:
                span.end = min(span.end, span.seen + 1)
            over = span.over()
            limits[span.sent.span] = span.end
            self._ring(span)
        self.tell(m.TakenBack(worker, limits))
