"""Promises 1 to 3 under fire; `soak_kills.py` is the long version."""

from pathlib import Path

import pytest

from tests.promises.kills import soak


@pytest.mark.slow
@pytest.mark.parametrize("seed, ordered, chunk", [(1, True, None), (2, False, 512), (3, True, 10)])
def test_every_call_has_its_own_outcome_once(tmp_path: Path, seed: int, ordered: bool, chunk: int | None) -> None:
    figures = soak(tmp_path, 200_000, 40, seed, workers=3, ordered=ordered, chunk=chunk)
    assert figures["kills"] == 40 and figures["calls"] >= 200_000
