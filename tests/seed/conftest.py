"""Seed programs run as their own reader would run them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
Play = Callable[[str], tuple[str, float]]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run a program of `examples/` to its good end: what it printed, and how many seconds it took."""

    def play(name: str) -> tuple[str, float]:
        # Unbuffered, a print of several values is several writes, and no library could keep its line whole.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        started = time.monotonic()
        run = subprocess.run(
            [sys.executable, EXAMPLES / name],
            cwd=tmp_path,
            env=environment | {"PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=50,
            check=False,
        )
        assert (run.returncode, run.stderr) == (0, "")
        return run.stdout, time.monotonic() - started

    return play
