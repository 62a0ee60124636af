"""Every cell of the table from a process of its own, with a limit; nothing of it is left behind."""

import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.faults import processes
from benchmarks.faults.catalogue import Fault
from benchmarks.faults.systems import Adapter
from benchmarks.fresh import ROOT, environment, last_line

CHILD = "from benchmarks.faults.child import main; main()"
MARK = "PROCORO_FAULTS_CELL"
SHARED = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of one system under one fault: `ok`, `n/a`, `HANG`, `ERROR name` or `WRONG words`."""

    fault: str
    system: str
    verdict: str
    seconds: float


def play(faults: Sequence[Fault], systems: Sequence[type[Adapter]], limit: float | None) -> Iterator[Cell]:
    for fault in faults:
        for system in systems:
            yield played(fault, system, fault.limit if limit is None else limit)


def played(fault: Fault, system: type[Adapter], limit: float) -> Cell:
    mark = f"{MARK}={uuid.uuid4()}"
    before = set(SHARED.glob("*"))
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        answer, errors = Path(scratch, "answer"), Path(scratch, "errors")
        started_at = time.monotonic()
        # Its output goes to a file: at the other end of a pipe we would wait for whatever it leaves running.
        with errors.open("w") as stream:
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, fault.name, system.name, str(answer)],
                cwd=ROOT,
                env={**environment(), **dict([mark.split("=")]), "TMPDIR": scratch},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        try:
            child.wait(limit)
        except subprocess.TimeoutExpired:
            verdict = "HANG"
        else:
            verdict = answer.read_text() if answer.exists() else _death(child.returncode, errors.read_text())
        finally:
            seconds = time.monotonic() - started_at
            processes.end_all(child.pid, mark)
            child.wait()
            _sweep(before)
    return Cell(fault.name, system.name, verdict, seconds)


def _sweep(before: set[Path]) -> None:
    """Remove the shared memory and semaphores of peers that were killed: they name a process, which is gone."""
    for path in set(SHARED.glob("*")) - before:
        owner = re.search(r"[-_](\d+)[-_]", path.name)
        if owner is None or psutil.pid_exists(int(owner[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _death(returncode: int, errors: str) -> str:
    return f"ERROR of the program: status {returncode}, {last_line(errors)}"
