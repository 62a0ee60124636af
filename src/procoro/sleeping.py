"""How the user's threads wait for procoro's own.

By locks of C's alone. In a condition or event of Python's, an exception of a signal handler (a Ctrl-C) can land between
two steps and leave its lock held; procoro's thread, which has to tell, would then wait for that lock for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

LOOK = 1.0  # seconds: a signal that comes just before a sleep does not end it, and is heard then


class Sleep:
    """A thread's wait, from when this is made. (A condition would take six times as long to make and to use.)"""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, timeout: float | None) -> None:
        """Sleep until it is ended, or for `timeout` seconds."""
        if timeout is not None:
            self._lock.acquire(timeout=max(timeout, 0))
            return
        while not self._lock.acquire(timeout=LOOK):
            pass

    def end(self) -> None:
        """Once."""
        self._lock.release()


class Sleepers:
    """Threads that wait for a state. Whoever changes it calls `wake` after that."""

    __slots__ = ("_sleeps",)

    def __init__(self) -> None:
        self._sleeps: list[Sleep] = []

    def wake(self) -> None:
        """Let all of them look again."""
        sleeps, self._sleeps = self._sleeps, []
        for sleep in sleeps:
            sleep.end()

    def sleep(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until that is true, or for `timeout` seconds; is it?"""
        deadline = None if timeout is None else monotonic() + timeout
        while not until():
            sleep = Sleep()
            self._sleeps.append(sleep)
            try:
                if until():  # it came before `wake` could know of us
                    break
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return False
                sleep.wait(left)
            finally:
                try:
                    self._sleeps.remove(sleep)
                except ValueError:  # it was woken
                    pass
        return True


class Flag:
    """As `threading.Event`."""

    __slots__ = ("_is_set", "_sleepers")

    def __init__(self) -> None:
        self._is_set = False
        self._sleepers = Sleepers()

    def is_set(self) -> bool:
        """Has it been set?"""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all who wait for that."""
        self._is_set = True
        self._sleepers.wake()

    def clear(self) -> None:
        """Set it back. For who waits, when nobody else does."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for `timeout` seconds; is it?"""
        return self._is_set or self._sleepers.sleep(self.is_set, timeout)
