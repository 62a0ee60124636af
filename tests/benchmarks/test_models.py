"""`python -m benchmarks models` measures, and says which goals are met."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.models.catalogue import GOALS, MEASURES

ROOT = Path(__file__).parents[2]


def test_a_short_run(tmp_path: Path) -> None:
    measures = ("http", "await", "memory-asyncio")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "models", "--quick", "--rounds", "1", "--json", tmp_path / "figures.json"]
        + [word for name in measures for word in ("--only", name)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "figures.json").read_text())
    assert document["subject"] == "models" and all(sample["figures"] for sample in document["samples"])
    assert sum(goal.startswith(("met", "MISSED")) for goal in document["goals"]) == len(document["goals"]) >= 4
    assert "goals" in done.stdout and "by hand" in done.stdout


@pytest.mark.pure
def test_every_goal_names_what_is_measured() -> None:
    systems = {measure.name: {one.name for one in measure.systems} for measure in MEASURES}
    metrics = {measure.name: {one.key for one in measure.metrics} for measure in MEASURES}
    for goal in GOALS:
        assert goal.key in metrics[goal.measure]
        assert {goal.system, goal.against or goal.system} <= systems[goal.measure]
    assert all(measure.against in systems[measure.name] for measure in MEASURES)
