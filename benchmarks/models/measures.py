"""What is measured, each `(make, task) -> figures by name`, alone in a fresh process."""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.compare.catalogue import Figures
from benchmarks.compare.processes import cpu_seconds, family, pss_mib
from benchmarks.fresh import ROOT
from benchmarks.models import calls
from benchmarks.models.systems import Call, Runs

Make = Callable[[int, int], Runs]
WAITING = 2.0  # seconds, of the calls whose memory is measured
SETTLED = 1.2  # of those, when all have begun


@dataclass(frozen=True, slots=True)
class Task:
    """`seconds`: how long is measured, about: runs of `count` calls. `places`: calls at once in each process."""

    seconds: float
    call: Call
    count: int
    places: int
    processes: int = 2


class Wrong(Exception):
    """Not what was due came back, or not as it was due: no figure is worth reporting."""


def rate(make: Make, task: Task) -> Figures:
    """Calls a second. `cpu_us`: what a call costs all processes together, this one too."""
    system = make(task.processes, task.places)
    figures = _rate(system, task, range(task.count), list(range(task.count)))
    system.close()
    return figures


def http(make: Make, task: Task) -> Figures:
    """Requests a second, as `rate`. `server_us`: what a request costs the server."""
    os.environ["no_proxy"] = "127.0.0.1"
    with _server() as (port, server):
        system = make(task.processes, task.places)
        inputs = [f"http://127.0.0.1:{port}/{number}" for number in range(task.count)]
        before = cpu_seconds([server])
        figures = _rate(system, task, inputs, [calls.BODY] * task.count, server)
        requests = task.processes * task.places + figures["runs"] * task.count
        system.close()
        return figures | {"server_us": (cpu_seconds([server]) - before) / requests * 1e6}


def _rate(system: Runs, task: Task, inputs: Sequence[Any], due: list[Any], stranger: int = 0) -> Figures:
    """The median of the runs. Before them: as many calls as there can be at once, so that all has started."""
    system.run(task.call, inputs[: task.processes * task.places])
    pids = [pid for pid in family(os.getpid()) if pid != stranger]
    took: list[float] = []
    before = cpu_seconds(pids)
    while sum(took) < task.seconds:
        began = time.perf_counter()
        values = system.run(task.call, inputs)
        took.append(time.perf_counter() - began)
        if values != due:
            raise Wrong("not the values that were due")
    cpu = (cpu_seconds(pids) - before) / len(took) / task.count
    return {
        "rate": task.count / statistics.median(took),
        "cpu_us": cpu * 1e6,
        "runs": len(took),
        "calls": task.count,
    }


@contextmanager
def _server() -> Iterator[tuple[int, int]]:
    """Its port and its pid."""
    command = [sys.executable, "-m", "benchmarks.models.server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin and server.stdout
        yield int(server.stdout.readline()), server.pid
        server.stdin.close()


def memory(make: Make, task: Task) -> Figures:
    """How much the processes grow by each call that waits in them. This process, which only asked, is not counted."""
    system = make(task.processes, task.places)
    system.run(task.call, [0.0])
    before = _processes_mib()
    values: list[tuple[float, float]] = []
    asks = threading.Thread(target=lambda: values.extend(system.run(task.call, [WAITING] * task.count)))
    asks.start()
    time.sleep(SETTLED)
    from_ = time.monotonic()
    grown = _processes_mib() - before
    until = time.monotonic()
    asks.join()
    system.close()
    if len(values) != task.count or any(began > from_ or ended < until for began, ended in values):
        raise Wrong("not all were waiting when memory was measured")
    return {"kib": grown * 1024 / task.count, "calls": task.count}


def _processes_mib() -> float:
    """PSS of all processes that descend from this one."""
    return sum(pss_mib(pid) for pid in family(os.getpid()) if pid != os.getpid())
