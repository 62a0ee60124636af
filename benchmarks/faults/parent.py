"""What becomes of the program that has the pool. Each is a program of its own (in `programs`), watched from outside."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.faults import processes
from benchmarks.faults.expect import Wrong, wait_until
from benchmarks.faults.systems import Adapter
from benchmarks.fresh import ROOT

MARK = "PROCORO_FAULTS_PROGRAM"
MIB = 2**20


def parent_kill9_no_orphans(system: type[Adapter]) -> None:
    """A program whose two workers have run a call and are idle is killed with SIGKILL. 3 s later none of its processes
    is alive, neither workers nor helpers."""
    with program("waits", system) as (parent, mark):
        assert parent.stdout is not None
        workers = {int(pid) for pid in parent.stdout.readline().split()}
        parent.kill()
        parent.wait()
        time.sleep(3)
        alive = set(processes.marked(mark))
    if alive:
        raise Wrong(f"{len(alive & workers)} of {len(workers)} workers, {len(alive - workers)} helpers alive")


def ctrl_c(system: type[Adapter]) -> None:
    """A program waits for four calls that sleep 30 s, two of which are running, and its group gets a SIGINT. What
    leaving its `with` does is over within 4 s, and none of its processes is left then."""
    with tempfile.TemporaryDirectory() as folder, program("sleeps", system, folder) as (parent, mark):
        if not wait_until(lambda: len(os.listdir(folder)) == 2, 15):
            raise Wrong(f"{len(os.listdir(folder))} of 2 calls began")
        started_at = time.monotonic()
        os.killpg(parent.pid, signal.SIGINT)
        parent.wait()
        took = time.monotonic() - started_at
        if took > 4:
            raise Wrong(f"over after {took:.0f} s")
        if not wait_until(lambda: not processes.marked(mark), 4 - took):
            raise Wrong(f"{len(processes.marked(mark))} processes left")


def stdout_1_mib(system: type[Adapter]) -> None:
    """A call prints 1 MiB in lines, and flushes. All of it comes out of the program's standard output, a pipe."""
    with program("shouts", system) as (parent, _):
        output, _ = parent.communicate()
    if output != ("x" * 1023 + "\n") * 1024:
        raise Wrong(f"{len(output):,} of {MIB:,} bytes")


@contextmanager
def program(name: str, system: type[Adapter], *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program, in a session of its own, and what marks all processes that it starts."""
    mark = f"{MARK}={uuid.uuid4()}"
    with subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.faults.programs.{name}", system.name, *arguments],
        cwd=ROOT,
        env={**os.environ, **dict([mark.split("=")])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        yield parent, mark
