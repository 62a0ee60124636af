"""Workers are killed at random while a stream of tiny calls runs: what must hold, and who checks it.

Shared by a short test and by `soak_kills.py`.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from procoro import Pool
from procoro.errors import WorkerDied, failed_call
from tests.promises import calls, looks

ROOM = 1 << 26  # calls at most, one byte each in a sparse file


class Killer(threading.Thread):
    """Kills a random worker, again and again, at random moments."""

    def __init__(self, kills: int, seed: int) -> None:
        super().__init__(name="killer")
        self.random = random.Random(seed)
        self.kills = kills
        self.killed: list[int] = []
        self.seen: dict[int, float] = {}  # workers, and since when
        self.go = threading.Event()
        self.done = threading.Event()
        self.template = looks.template().pid

    def run(self) -> None:
        try:
            self.go.wait()
            while len(self.killed) < self.kills and not self.done.is_set():
                self.done.wait(self.random.choice((0.0, 0.002, 0.01, 0.03)) * self.random.random())
                # Young workers load the function; old ones are in the midst of calls. Both shall be hit.
                if workers := self._workers(age=self.random.choice((0.0, 0.05, 0.1, 0.1))):
                    self._kill(self.random.choice(workers))
        finally:
            self.done.set()

    def _workers(self, age: float) -> list[int]:
        """The workers that have been here for so many seconds."""
        pids = Path(f"/proc/{self.template}/task/{self.template}/children").read_text().split()
        now = time.monotonic()
        self.seen = {pid: self.seen.get(pid, now) for pid in map(int, pids)}
        return [pid for pid, since in self.seen.items() if now - since >= age]

    def _kill(self, pid: int) -> None:
        """Kill it if it is a living worker: not a dead one, which nobody has waited for yet."""
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            return
        if pid not in self.killed:
            self.killed.append(pid)


def inputs(least: int, killer: Killer) -> Iterator[int]:
    """0, 1, 2 ...: so many at least, and as long as the killer is at it."""
    x = 0
    while x < least or not killer.done.is_set():
        yield x
        x += 1
        if x == ROOM:
            killer.done.set()


def soak(
    folder: Path,
    least: int,
    kills: int,
    seed: int,
    *,
    workers: int = 4,
    ordered: bool = True,
    chunk: int | None = None,
    model: str = "serial",
    concurrency: int | None = None,
) -> dict[str, Any]:
    """Run, check each outcome, and tell the figures. Raises AssertionError for the first thing that is wrong."""
    function = {"serial": calls.Marked, "asyncio": calls.MarkedTask}.get(model, calls.MarkedWait)
    chance = random.Random(seed)
    marks = folder / f"marks-{seed}"
    with open(marks, "wb") as file:
        file.truncate(ROOM)
    factor = chance.randrange(7, 1000, 2)
    blamed: dict[int, WorkerDied] = {}
    with Pool(workers, model=model, concurrency=concurrency) as pool:
        killer = Killer(kills, seed)
        killer.start()
        try:
            killer.go.set()
            method = pool.imap if ordered else pool.imap_unordered
            stream = method(function(str(marks), factor), inputs(least, killer), chunk)
            count = _check(stream, factor, ordered, blamed)
        finally:
            killer.done.set()
            killer.join()
        again = pool.map(calls.double, range(1000))
        assert again == [2 * x for x in range(1000)], "the pool works on"
    _check_blame(blamed, killer.killed)
    with open(marks, "rb") as file:
        runs = file.read(count)
        assert not any(file.read(1 << 20)), "a call that there was not"
    marks.unlink()
    assert max(runs) == 1, f"begun twice: {[x for x, times in enumerate(runs) if times > 1][:10]}"
    idle = {x for x, times in enumerate(runs) if times == 0}
    assert idle <= blamed.keys(), f"not begun, and has a value: {sorted(idle - blamed.keys())[:10]}"
    return {"calls": count, "kills": len(killer.killed), "blamed": len(blamed), "blamed, not begun": len(idle)}


def _check(stream: Any, factor: int, ordered: bool, blamed: dict[int, WorkerDied]) -> int:
    """Every call has one outcome, and it is its own; how many there were."""
    count, seen = 0, bytearray(ROOM)
    while True:
        try:
            for value in stream:
                x, rest = divmod(value - 3, factor)
                assert not rest and not seen[x], f"{value} is not the value of a call that was due"
                assert not ordered or x == count, f"the value of call {x} at place {count}"
                seen[x] = 1
                count += 1
            break
        except WorkerDied as error:
            call = failed_call(error)
            number = -1 if call is None else call.number
            _is_due(error, number, seen, count if ordered else number)
            seen[number] = 1
            blamed[number] = error
            count += 1
    assert seen.count(1) == count and not any(seen[count:]), "a call has no outcome"
    return count


def _is_due(error: WorkerDied, number: int, seen: bytearray, place: int) -> None:
    call = failed_call(error)
    assert call is not None and number == place and not seen[number], f"{error}: not due at place {place}"
    assert call.input == str(number), f"{error}: the input of another call"


def _check_blame(blamed: dict[int, WorkerDied], killed: list[int]) -> None:
    """As many calls for each kill as ran in that worker, which each of them says; and the right pid."""
    pids = Counter(error.pid for error in blamed.values())
    for error in blamed.values():
        assert error.suspects == pids[error.pid], f"{error.suspects} suspects, and {pids[error.pid]} calls blamed"
    assert set(pids) <= set(killed), f"blamed for a worker that was not killed: {set(pids) - set(killed)}"
    assert all(error.exitcode == -signal.SIGKILL for error in blamed.values())
