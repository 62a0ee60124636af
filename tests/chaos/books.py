"""What has been asked for, and what came of it: written by the users' threads, judged by `check.py`."""

import threading
from typing import Any

from procoro import Pool
from tests.chaos.kinds import Kind


class Setting:
    """A pool, and what was asked of it."""

    def __init__(
        self, pool: Pool, timeout: float | None, retries: int, memory: str | None, most_calls: int | None, ending: str
    ) -> None:
        self.pool = pool
        self.timeout = timeout
        self.retries = retries
        self.memory = memory
        self.most_calls = most_calls
        self.ending = ending  # how the pool comes to its end: closed, terminated, forgotten


class Call:
    """One call."""

    def __init__(self, number: int, kind: Kind, given: Any, setting: Setting) -> None:
        self.number = number
        self.kind = kind
        self.given = given
        self.setting = setting
        self.retries = setting.retries
        # How else it may end: cancelled, killed, terminated; and: unseen (nobody looks), dropped (it is not run)
        self.may: set[str] = {"terminated"} if setting.ending == "terminated" else set()
        self.is_cancelled = False  # `cancel()` has said so
        self.endings: list[tuple[bool, Any]] = []
        self.told: list[bool] | None = None  # to callbacks: has it returned?
        self.place: int | None = None  # in its map or stream

    def __repr__(self) -> str:
        return f"call {self.number} ({self.kind.name}{'' if self.place is None else f', place {self.place}'})"

    def end(self, ok: bool, outcome: Any) -> None:
        self.endings.append((ok, outcome if ok else bare(outcome)))


def bare(error: BaseException) -> BaseException:
    """Without tracebacks: their frames would keep streams and pools alive."""
    seen: set[int] = set()
    wanted: list[BaseException | None] = [error]
    while wanted:
        one = wanted.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            wanted += [one.__cause__, one.__context__]
    return error


class Books:
    """All calls of a seed, and all that was wrong."""

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self.settings: list[Setting] = []
        self.faults: list[str] = []
        self.closings: list[str] = []  # of input generators that were begun: opened, closed
        self.expected: list[tuple[list[bool], bool, str]] = []  # of maps: what callbacks were told, what is right
        self._lock = threading.Lock()

    def enter(self, call: Call) -> None:
        with self._lock:
            assert call.number not in self.calls
            self.calls[call.number] = call

    def strike(self, call: Call) -> None:
        """It was refused at the door because the pool is over: it must never begin."""
        self.require(call.setting.ending == "terminated", f"{call!r} was refused, and its pool was not ended")
        call.may = {"dropped"}

    def wrong(self, words: str) -> None:
        with self._lock:
            self.faults.append(words)

    def require(self, holds: object, words: str) -> None:
        if not holds:
            self.wrong(words)
