"""What the world does: it kills workers and their template, stops and continues workers and the parent itself."""

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

KILL, KILL_TEMPLATE, STOP, STOP_PARENT = "kill", "kill the template", "stop", "stop the parent"
DEEDS = {KILL: 100, KILL_TEMPLATE: 2, STOP: 25, STOP_PARENT: 3}


class World(threading.Thread):
    """Does something at random moments, until it is told to stop."""

    def __init__(self, seed: int, calls: int) -> None:
        super().__init__(name="world", daemon=True)
        self.random = random.Random(f"world {seed}")
        self.rate = self.random.choice([0.0, 2.0, 6.0, 15.0])  # deeds a second: workers can still start
        self.left = calls // self.random.choice([60, 30, 15])  # deeds; the slower the machine, the rarer
        self.killed: set[int] = set()
        self.templates_killed = 0
        self.stops = self.parent_stops = 0
        self.over = threading.Event()
        self.at_it = threading.Lock()  # whoever holds it has peace
        self._known: set[int] = set()  # workers whose template was killed
        self._seen: dict[int, float] = {}  # workers, and since when

    def figures(self) -> dict[str, int]:
        """What it has done."""
        return {
            "killed": len(self.killed),
            "templates killed": self.templates_killed,
            "stops": self.stops,
            "stops of the parent": self.parent_stops,
        }

    def run(self) -> None:
        while self.rate and self.left > 0 and not self.over.wait(min(self.random.expovariate(self.rate), 1.0)):
            deed = self.random.choices(list(DEEDS), list(DEEDS.values()))[0]
            seconds = self.random.choice([0.0, 0.002, 0.02, 0.15])
            self.left -= 1
            with self.at_it:
                self._do(deed, seconds)

    def end(self) -> None:
        self.over.set()
        self.join()

    def _do(self, deed: str, seconds: float) -> None:
        templates = [pid for pid in children(os.getpid()) if _is_procoro(pid)]
        workers = sorted({pid for pid in self._known if _is_procoro(pid)}.union(*map(children, templates)))
        if deed == STOP_PARENT:
            self.parent_stops += 1
            subprocess.run(["sh", "-c", f"kill -STOP {os.getpid()}; sleep {2 * seconds}; kill -CONT {os.getpid()}"])
        elif deed == KILL_TEMPLATE and templates:
            template = self.random.choice(sorted(templates))
            self.templates_killed += 1  # before it is: who learns of it will look
            self._known.update(children(template))
            send(template, signal.SIGKILL)
        elif deed == KILL and (worker := self._one_of(workers)):
            if _state(worker) not in ("Z", "X", ""):
                self.killed.add(worker)
                send(worker, signal.SIGKILL)
        elif deed == STOP and workers:
            self._hold(self.random.choice(workers), seconds)

    def _one_of(self, workers: list[int]) -> int:
        """One to kill; 0 for none. Few of the young ones: where all that start are killed, a pool gives up."""
        now = time.monotonic()
        self._seen = {pid: self._seen.get(pid, now) for pid in workers}
        age = self.random.choice([0.0, 0.2, 0.2, 0.2, 0.5])
        old = [pid for pid, since in self._seen.items() if now - since >= age]
        return self.random.choice(old) if old else 0

    def _hold(self, pid: int, seconds: float) -> None:
        try:
            pidfd = os.pidfd_open(pid)  # its number may be another's when it is to go on
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
            self.stops += 1
            time.sleep(seconds)  # that it is stopped for a while is the point
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)


def children(pid: int) -> set[int]:
    """The processes that a process has started, the dead included."""
    found: set[int] = set()
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found.update(map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split()))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _is_procoro(pid: int) -> bool:
    """Is this a template, or a worker? (A dead one has no command.)"""
    try:
        return b"procoro.worker.template" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
