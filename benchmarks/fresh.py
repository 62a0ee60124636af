"""What every benchmark needs that starts fresh processes."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TIDYING = 1.0  # seconds
MEMORY = Path("/dev/shm")  # where joblib puts arrays by itself
LITTER = ("TMPDIR", "JOBLIB_TEMP_FOLDER", "DASK_TEMPORARY_DIRECTORY", "RAY_TMPDIR")


def environment() -> dict[str, str]:
    """Ours, but bytecode may be written: a system that is compiled anew in each process would look slow."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def ask(code: str, arguments: Iterable[str], patience: float) -> tuple[Any, str]:
    """Run code in a process of its own, which prints its figures as a last line of JSON: those, or what was wrong.

    It may end while processes that it has started still run: these are ended, and their files removed. Without figures,
    they are empty.
    """
    with (
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
        tempfile.TemporaryDirectory(
            prefix="bench-", dir=MEMORY if MEMORY.is_dir() else None, ignore_cleanup_errors=True
        ) as litter,
    ):
        child = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            env=environment() | dict.fromkeys(LITTER, litter),
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            return {}, f"no end after {patience:g} s"
        finally:
            _end_session(child)
        output.seek(0)
        errors.seek(0)
        if child.returncode != 0:
            return {}, last_line(errors.read()) or f"ended with status {child.returncode}"
        return json.loads(last_line(output.read())), ""


def _end_session(child: subprocess.Popen[bytes]) -> None:
    """Whatever the child left running would disturb the next; on Ctrl-C also the child itself.

    Trackers of semaphores and folders ignore SIGTERM, and remove these when all others have gone: they are given time.
    """
    for sent in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + TIDYING
        while _runs(child.pid) and time.monotonic() < deadline:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, sent)
            time.sleep(0.005)
    child.wait()


def _runs(group: int) -> bool:
    """Does a process of the group run? The dead, whom nobody has asked for yet, do not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False
