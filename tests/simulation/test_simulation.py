"""Thousands of small pools, each played from its seed to its end. A red one names its seed; `play(seed)` replays it."""

import pytest

from tests.simulation.world import play

pytestmark = pytest.mark.pure

SEEDS = 2000
GROUP = 200


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_every_promise_holds_in_every_world(first: int) -> None:
    for seed in range(first, first + GROUP):
        play(seed)
