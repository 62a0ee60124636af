"""Ctrl-C and SIGTERM: the first asks to drain, the second to stop."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self


def leave_the_end_to_the_parent() -> None:
    """In a worker: who ends a service often sends SIGTERM to all its processes, and this one is to finish its call.

    By a handler: SIG_IGN would be inherited by programs that calls start.
    """
    signal.signal(signal.SIGTERM, _left_to_the_parent)


def _left_to_the_parent(number: int, frame: FrameType | None) -> None:
    pass


class Interrupts:
    """Counts SIGINT and SIGTERM while it is entered, in the main thread; then the old handlers come back.

    The handler only counts, so that it can land anywhere. The loop looks at the count ten times a second.
    A signal that was ignored (`nohup`, or `&` in a script) stays ignored.
    """

    def __init__(self) -> None:
        self.count = 0
        self._old: dict[signal.Signals, Any] = {}

    @property
    def drain(self) -> bool:
        """No new input shall be started."""
        return self.count >= 1

    @property
    def stop(self) -> bool:
        """What runs shall be given up too."""
        return self.count >= 2

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._old[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *exc_info: object) -> None:
        while self._old:
            signal.signal(*self._old.popitem())

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
