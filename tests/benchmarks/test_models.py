"""`python -m benchmarks models` measures, and says which goals are met."""

from pathlib import Path

from tests.benchmarks.runs import judged, short_run


def test_a_short_run(tmp_path: Path) -> None:
    measures = ("http", "await", "memory-asyncio")
    document, said = short_run("models", tmp_path / "figures.json", measures, "--rounds", "1")
    assert all(sample["figures"] for sample in document["samples"])
    assert judged(document) >= 4
    assert "goals" in said and "by hand" in said
