"""What is measured, each `(make, task) -> figures by name`. `make()` says which server is started."""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.compare.catalogue import Figures
from benchmarks.compare.processes import family
from benchmarks.fresh import ROOT

LOAD = Path(__file__).with_name("load.c")
Make = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Task:
    """`seconds`: how long is measured. `at_once`: requests that are under way; 0: none, the connections are idle."""

    seconds: float
    connections: int
    size: int = 64
    at_once: int = 64
    short: bool = False
    processes: int = 1


def echo(make: Make, task: Task) -> Figures:
    """Requests a second. `cpu_us`: what one costs the server, all its processes together."""
    with _server(make(), task) as (port, pid), _load(port, task) as load:
        pids = family(pid)
        before = _cpu_seconds(pids)
        requests, errors, took, median, late = _of(load, task.seconds)
        cpu = _cpu_seconds(pids) - before
        return {
            "rate": requests / took,
            "cpu_us": cpu / requests * 1e6,
            "p50_us": median,
            "p99_us": late,
            "errors": errors,
        }


def memory(make: Make, task: Task) -> Figures:
    """What each idle connection costs the server's processes; the kernel's part is not in it."""
    with _server(make(), task) as (port, pid):
        with _load(port, Task(task.seconds, 100)):
            pass  # what is made once
        before = sum(map(_private_kib, family(pid)))
        with _load(port, task):
            return {"kib": (sum(map(_private_kib, family(pid))) - before) / task.connections}


def spread(make: Make, task: Task) -> Figures:
    """Connections of the process that has fewest."""
    with _server(make(), task) as (port, pid):
        before = {one: _sockets(one) for one in family(pid)}
        with _load(port, task):
            more = sorted(_sockets(one) - count for one, count in before.items())
            return {"fewest": more[-task.processes]}


@contextmanager
def _server(name: str, task: Task) -> Iterator[tuple[int, int]]:
    """Its port and pid."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    command = [sys.executable, "-m", "benchmarks.server.servers", name, str(task.processes)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin and server.stdout
        try:
            yield int(server.stdout.readline()), server.pid
        finally:
            if name.startswith("procoro"):
                server.stdin.close()  # it ends its workers, too
            else:
                for pid in family(server.pid):
                    os.kill(pid, 9)


@contextmanager
def _load(port: int, task: Task) -> Iterator["subprocess.Popen[str]"]:
    """It has opened its connections, and each has echoed once."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/load"
        subprocess.run(["cc", "-O2", "-o", program, LOAD], check=True)
        command = [program, *(str(int(one)) for one in (port, task.connections, task.size, task.at_once, task.short))]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout and load.stdin
            if load.stdout.readline() != "ready\n":
                raise RuntimeError(f"no connection to port {port}")
            yield load
            load.stdin.close()


def _of(load: "subprocess.Popen[str]", seconds: float) -> tuple[float, ...]:
    said, _ = load.communicate(f"{seconds}\n")
    if load.returncode:
        raise RuntimeError("the load has failed")
    return tuple(map(float, said.split()))


def _cpu_seconds(pids: list[int]) -> float:
    """Of all their threads."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def _private_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def _sockets(pid: int) -> int:
    return sum(os.readlink(one).startswith("socket:") for one in Path(f"/proc/{pid}/fd").iterdir())
