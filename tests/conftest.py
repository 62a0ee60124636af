"""What every test is held to: it leaves nothing behind."""

import gc
import importlib
import os
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from procoro.engines.template import LINGER
from tests.gate import Gate

GRACE = 5.0  # seconds in which what is on its way out may leave

# Every process that a test starts inherits this, and keeps it when its parent dies and it is no longer
# a descendant of ours. The number of the session keeps two runs on one machine apart.
MARK = f"PROCORO_TEST_SESSION={uuid.uuid4()}"
os.environ.update([MARK.split("=")])

# Who runs in the background of a shell ignores these, and so would all programs that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# A template stays a while for who comes next: 2,000 tests would each wait for its end. A test may want the `lingering`.
LINGERING = ["procoro.engines.process", "procoro.engines.local", "procoro.conductor.conductor"]
for name in LINGERING:
    importlib.import_module(name).LINGER = 0.0  # type: ignore[attr-defined]


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let templates stay as long as in a program."""
    for name in LINGERING:
        monkeypatch.setattr(f"{name}.LINGER", LINGER)


@dataclass(frozen=True, slots=True)
class Belongings:
    """What this process holds at one moment, each thing with words that say what it is."""

    processes: dict[tuple[int, float], str]  # by pid and start time
    threads: dict[int, str]  # by id(thread)
    files: dict[str, str]  # /dev/shm and temporary files of procoro's name
    descriptors: dict[str, str]  # by number; only their count is compared

    def beyond(self, before: "Belongings") -> list[str]:
        """What is here now and was not before, in words; empty if nothing is."""
        left = [
            f"{kind} left behind: {now[key]}"
            for kind, now, then in [
                ("process", self.processes, before.processes),
                ("thread", self.threads, before.threads),
                ("file", self.files, before.files),
            ]
            for key in sorted(now.keys() - then.keys(), key=str)
        ]
        more = len(self.descriptors) - len(before.descriptors)
        if more > 0:
            new = sorted(self.descriptors.items() - before.descriptors.items())
            left.append(f"{more} descriptor(s) left open, among: " + ", ".join(f"{n} -> {t}" for n, t in new))
        return left


def belongings() -> Belongings:
    return Belongings(_processes(), _threads(), _files(), _descriptors())


def _processes() -> dict[tuple[int, float], str]:
    found = {}
    descendants = psutil.Process().children(recursive=True)  # also the dead that nobody waited for
    for process in [*descendants, *_marked()]:
        try:
            words = f"{process.pid} {process.name()} ({process.status()}) {_command(process)}"
            found[process.pid, process.create_time()] = words
        except psutil.NoSuchProcess:  # it has left meanwhile
            continue
    return found


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.ZombieProcess:
        return "dead, nobody waited for it"


def _marked() -> Iterator[psutil.Process]:
    """Processes of this test session, also those whose parent is gone."""
    mark = MARK.encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(pid) != os.getpid() and mark in Path("/proc", pid, "environ").read_bytes():
                yield psutil.Process(int(pid))
        except (OSError, psutil.Error):
            continue


def _threads() -> dict[int, str]:
    return {id(thread): repr(thread) for thread in threading.enumerate()}


def _files() -> dict[str, str]:
    places = [Path("/dev/shm"), Path(tempfile.gettempdir())]
    return {str(path): str(path) for place in places if place.is_dir() for path in place.glob("procoro*")}


def _descriptors() -> dict[str, str]:
    targets = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            targets[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the one that listed the folder
            continue
    return targets


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, thread, descriptor, shared memory or file, whatever else it proved.

    Looking costs about 5 ms a test; those marked `pure` are believed.
    """
    if request.node.get_closest_marker("pure"):
        yield
        return
    before = belongings()
    yield
    left = belongings().beyond(before)
    if not left:
        return
    deadline = time.monotonic() + GRACE
    while left and time.monotonic() < deadline:
        gc.collect()  # a traceback in a cycle may hold what the test has long dropped
        time.sleep(0.01)
        left = belongings().beyond(before)
    if left:
        pytest.fail("\n".join(left), pytrace=False)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """One gate for the test; it is taken away at the end, so that nobody stands there for ever."""
    with Gate(tmp_path / "gate") as gate:
        yield gate
