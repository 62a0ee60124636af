"""The decisions: a pure machine, `Scheduler.handle(events, now) -> list[Effect]`. Knows no clock, thread or process."""

from procoro.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
