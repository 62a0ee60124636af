"""Seed program S5: the tutorial's Pool, changed in its import line only."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "examples" / "s5_pool.py"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, float]:
    """What the program printed, and how many seconds it took."""
    # Unbuffered, `print('son', i)` is several writes, and no library could keep its line whole.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    started = time.monotonic()
    run = subprocess.run(
        [sys.executable, PROGRAM],
        cwd=tmp_path_factory.mktemp("s5"),
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout, time.monotonic() - started


def test_every_son_calls_back_once_with_its_value(played: tuple[str, float]) -> None:
    printed, _ = played
    values = [int(value) for value in re.findall(r"(?m)^Back got (\d+) in process \d+$", printed)]
    assert sorted(values) == list(range(100, 110))


def test_callbacks_run_in_the_parent(played: tuple[str, float]) -> None:
    printed, _ = played
    (parent,) = re.findall(r"(?m)^parent is process (\d+)$", printed)
    assert set(re.findall(r"(?m)^Back got \d+ in process (\d+)$", printed)) == {parent}


def test_three_workers_share_the_sons(played: tuple[str, float]) -> None:
    printed, _ = played
    (parent,) = re.findall(r"(?m)^parent is process (\d+)$", printed)
    begun = re.findall(r"(?m)^son (\d) begins in process (\d+)$", printed)
    assert sorted(i for i, _ in begun) == list("0123456789"), "each line whole, each son once"
    workers = {pid for _, pid in begun}
    assert len(workers) == 3
    assert parent not in workers


def test_join_waits_for_the_last_son(played: tuple[str, float]) -> None:
    printed, _ = played
    assert len(re.findall(r"(?m)^son \d ends$", printed)) == 10
    assert printed.splitlines()[-1] == "all sons are done"


def test_ten_sons_take_four_rounds_of_two_seconds(played: tuple[str, float]) -> None:
    _, seconds = played
    assert 8 <= seconds < 20
