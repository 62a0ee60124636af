"""A scheduler told by hand, one event at a time: for what must follow from what."""

from __future__ import annotations

from typing import TypeVar

from procoro.calls import Fault, Run
from procoro.scheduler import Scheduler
from procoro.scheduler import messages as m

E = TypeVar("E")


class Stage:
    """Every method tells something and returns the effects; `now` is set by the test."""

    def __init__(self, size: int = 1, ready: bool = True, **options: int) -> None:
        self.scheduler = Scheduler(size, **options)
        self.now = 0.0
        self.effects: list[m.Effect] = self.scheduler.start(self.now)
        self.workers = [effect.worker for effect in self.all(m.StartWorker)]
        if ready:
            for worker in self.workers:
                self.tell(m.WorkerReady(worker))

    def tell(self, *events: m.Event) -> list[m.Effect]:
        effects = [effect for event in events for effect in self.scheduler.handle([event], self.now)]
        self.effects += effects
        return effects

    def all(self, kind: type[E]) -> list[E]:
        """All effects of this kind so far."""
        return [effect for effect in self.effects if type(effect) is kind]

    def submit(self, stream: int, count: int = 1, **options: object) -> list[m.Effect]:
        return self.tell(m.Opened(stream, 0, "f", items=range(count), nbytes=8 * count, **options))

    def sends(self, *packet: int, worker: int = 1, **options: object) -> m.Send:
        """One stream (1) of so many calls, all of them with one worker."""
        (count,) = packet
        self.tell(m.Opened(1, 1, "f", chunk=count, **options))
        self.tell(m.Supplied(1, range(count), 8 * count), m.Exhausted(1))
        sent = self.all(m.Send)[-1]
        assert (sent.worker, sent.count) == (worker, count)
        return sent

    def record(self, sent: m.Send, first: int, count: int = 1, ok: bool = True) -> list[m.Effect]:
        return self.tell(m.Recorded(sent.worker, sent.span, [Run(sent.first + first, count, ok, 8 * count, "packed")]))

    def end(self, sent: m.Send, ran: int) -> list[m.Effect]:
        return self.tell(m.SpanEnded(sent.worker, sent.span, ran, 0.001 * ran))

    def tick(self, now: float) -> list[m.Effect]:
        self.now = now
        return self.tell(m.Tick())

    def wait(self) -> list[m.Effect]:
        """Let time pass until something is due."""
        due = self.scheduler.wake_at()
        assert due is not None and due >= self.now
        return self.tick(due)

    def outcomes(self, stream: int = 1) -> dict[int, str]:
        """What has been delivered: "ok", "failed" or a FaultKind, by call."""
        found: dict[int, str] = {}
        for effect in self.all(m.Deliver):
            if effect.stream == stream:
                outcome = effect.outcome
                kind = outcome.kind if isinstance(outcome, Fault) else "ok" if outcome.ok else "failed"
                found |= dict.fromkeys(range(outcome.first, outcome.first + outcome.count), kind)
        return found

    def answers(self) -> dict[int, bool]:
        return {answer.ticket: answer.yes for answer in self.all(m.Answer)}


def kinds(effects: list[m.Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]
