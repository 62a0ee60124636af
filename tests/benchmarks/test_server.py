"""`python -m benchmarks server` measures, and says which goals are met."""

import shutil
from pathlib import Path

import pytest

from tests.benchmarks.runs import judged, short_run


@pytest.mark.skipif(shutil.which("cc") is None, reason="its load is a C program")
def test_a_short_run(tmp_path: Path) -> None:
    document, _ = short_run("server", tmp_path / "figures.json", ("echo-two", "spread"), "--rounds", "1")
    assert len(document["samples"]) == 6
    for sample in document["samples"]:
        assert sample["figures"] and sample["figures"].get("errors", 0) == 0
    assert judged(document) == 2
