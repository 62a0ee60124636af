"""`python -m benchmarks server` measures, and says which goals are met."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.server.catalogue import GOALS, MEASURES

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("cc") is None, reason="its load is a C program")
def test_a_short_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "server", "--quick", "--rounds", "1"),
            *("--json", tmp_path / "figures.json", "--only", "echo-two", "--only", "spread"),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "figures.json").read_text())
    assert len(document["samples"]) == 6
    for sample in document["samples"]:
        assert sample["figures"] and sample["figures"].get("errors", 0) == 0
    assert [goal.startswith(("met", "MISSED")) for goal in document["goals"]] == [True, True]


@pytest.mark.pure
def test_every_goal_names_what_is_measured() -> None:
    systems = {measure.name: {one.name for one in measure.systems} for measure in MEASURES}
    metrics = {measure.name: {one.key for one in measure.metrics} for measure in MEASURES}
    for goal in GOALS:
        assert goal.key in metrics[goal.measure]
        assert {goal.system, goal.against or goal.system} <= systems[goal.measure]
    assert all(measure.against in systems[measure.name] for measure in MEASURES)
