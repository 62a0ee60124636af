"""Short runs of `python -m benchmarks`, as programs."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def short_run(subject: str, figures: Path, measures: Iterable[str], *options: str) -> tuple[Any, str]:
    """Its figures, which it writes to that file, and what it prints. It must have measured all."""
    only = [word for name in measures for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", subject, "--quick", "--json", figures, *options, *only],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(figures.read_text())
    assert document["subject"] == subject
    return document, done.stdout


def judged(document: Any) -> int:
    """How many goals it has judged."""
    goals = document["goals"]
    assert all(goal.startswith(("met", "MISSED")) for goal in goals)
    return len(goals)
