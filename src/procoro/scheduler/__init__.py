"""The decisions: a pure machine, `Scheduler.handle(event, now) -> list[Effect]`. Knows no clock, thread or process."""

from procoro.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
