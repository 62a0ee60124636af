"""Promises 1 to 3 under fire; `soak_kills.py` is the long version."""

from pathlib import Path

import pytest

from procoro import Pool
from procoro.errors import WorkerDied
from tests.promises import calls
from tests.promises.kills import Killer, inputs, soak


@pytest.mark.slow
@pytest.mark.parametrize("seed, ordered, chunk", [(1, True, None), (2, False, 512), (3, True, 10)])
def test_every_call_has_its_own_outcome_once(tmp_path: Path, seed: int, ordered: bool, chunk: int | None) -> None:
    figures = soak(tmp_path, 200_000, 40, seed, workers=3, ordered=ordered, chunk=chunk)
    assert figures["kills"] == 40 and figures["calls"] >= 200_000


@pytest.mark.parametrize("model", ["asyncio", "greenlets", "threads"])
def test_calls_beside_each_other_have_their_own_outcomes_once(tmp_path: Path, model: str) -> None:
    figures = soak(tmp_path, 5_000, 8, 7, workers=2, ordered=model != "asyncio", model=model, concurrency=20)
    assert figures["kills"] == 8 and figures["calls"] >= 5_000


@pytest.mark.parametrize("ordered", [True, False])
def test_with_retries_every_call_has_its_value(ordered: bool) -> None:
    with Pool(3, retries=20) as pool:
        killer = Killer(15, seed=4)
        killer.start()
        killer.go.set()
        stream = (pool.imap if ordered else pool.imap_unordered)(calls.double, inputs(20_000, killer))
        found = list(stream)
        killer.join()
    assert (found if ordered else sorted(found)) == [2 * x for x in range(len(found))]
    assert len(found) >= 20_000 and len(killer.killed) == 15


def test_submits_under_fire() -> None:
    """Each is its own value or its own death, and no more die than workers were killed."""
    with Pool(3) as pool:
        killer = Killer(15, seed=5)
        killer.start()
        killer.go.set()
        results = []
        while len(results) < 20_000 or not killer.done.is_set():
            results += [pool.submit(calls.double, x) for x in range(len(results), len(results) + 500)]
            results[-1].wait(20)
        killer.join()
        died = [x for x, result in enumerate(results) if isinstance(result.exception(20), WorkerDied)]
    assert len(died) <= 15
    assert all(result.get(0) == 2 * x for x, result in enumerate(results) if x not in died)
