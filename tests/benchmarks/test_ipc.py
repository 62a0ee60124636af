"""`python -m benchmarks ipc` measures, and says which goals are met."""

from pathlib import Path

from tests.benchmarks.runs import judged, short_run


def test_a_short_run(tmp_path: Path) -> None:
    measures = ("queue-8MiB", "pipe-64KiB", "round-trip", "lock-pair", "processes-10")
    document, said = short_run("ipc", tmp_path / "figures.json", measures, "--rounds", "1")
    assert all(sample["figures"] for sample in document["samples"])
    assert judged(document) >= 5
    assert "goals" in said and "mp.Queue" in said
