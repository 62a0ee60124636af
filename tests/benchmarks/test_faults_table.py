"""`python -m benchmarks faults`: procoro passes every fault, and the harness sees what does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import catalogue, table
from benchmarks.faults.cells import Cell

ROOT = Path(__file__).parents[2]
BIG = "big_3GiB_argument"  # needs some 12 GiB of memory, and half a minute


def run(path: Path, *options: str) -> tuple[int, dict[tuple[str, str], str]]:
    """The exit status, and what each cell says."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "faults", "--json", str(path), *options],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert path.exists(), done.stderr
    cells = json.loads(path.read_text())["cells"]
    return done.returncode, {(cell["fault"], cell["system"]): cell["verdict"] for cell in cells}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_procoro_passes_every_fault(tmp_path: Path) -> None:
    status, verdicts = run(tmp_path / "cells.json", "--system", "procoro", "--skip", BIG)
    assert verdicts == {(name, "procoro"): "ok" for name in catalogue.NAMES if name != BIG}
    assert status == 0


def test_a_hang_is_seen_and_nothing_is_left(tmp_path: Path) -> None:
    _, verdicts = run(
        tmp_path / "cells.json", "--system", "mp.Pool", "--only", "sys_exit", "bad_argument", "--limit", "3"
    )
    assert verdicts == {("sys_exit", "mp.Pool"): "HANG", ("bad_argument", "mp.Pool"): "ok"}


def test_what_goes_wrong_is_told_apart(tmp_path: Path) -> None:
    """WRONG: it went on, but not as it should. ERROR: an exception where a result was due. n/a: no such feature."""
    names = ("kill9_keeps_others", "segfault", "hog_timeout")
    _, verdicts = run(tmp_path / "cells.json", "--system", "PPE", "--only", *names)
    assert verdicts["kill9_keeps_others", "PPE"].startswith("WRONG good=")
    assert verdicts["segfault", "PPE"] == "ERROR BrokenProcessPool"
    assert verdicts["hog_timeout", "PPE"] == "n/a"


@pytest.mark.pure
def test_the_sum_counts_what_is_ok() -> None:
    cells = [
        Cell("first", "one", "ok", 0.1),
        Cell("first", "two", "n/a", 0.1),
        Cell("second", "one", "HANG", 20.0),
        Cell("second", "two", "WRONG 1|2", 0.1),
    ]
    assert list(table.lines(cells)) == [
        "| fault | one | two |",
        "| --- | --- | --- |",
        "| first | ok | n/a |",
        "| second | HANG | WRONG 1/2 |",
        "| **ok of 2** | **1** | **0** (1 n/a) |",
    ]


@pytest.mark.pure
def test_every_fault_says_what_counts_as_ok() -> None:
    assert len(catalogue.FAULTS) == 29
    assert all(fault.run.__doc__ for fault in catalogue.FAULTS)
