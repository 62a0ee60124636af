"""Thousands of calls that do all they can, users that do all they may, a world that kills: every call ends as it must.

The short run; `python -m tests.chaos` is the long one. (Each seed is a process, and reports itself.)
"""

import pytest

from tests.chaos import given, kinds, seeds

CALLS = 600
SEEDS = (6, 10)

# Where a seed has found a bug, it stays here with what it found; `test_found.py` has it as small as it can be.
SEEDS_THAT_FOUND_BUGS = {
    5: "a worker whose descriptors a call had closed left between two calls, and the next was charged with that",
}


@pytest.mark.timeout(seeds.LONGEST + 60)
@pytest.mark.parametrize("seed", [*SEEDS, *SEEDS_THAT_FOUND_BUGS])
def test_every_call_ends_once_and_as_it_must(seed: int) -> None:
    right, said = seeds.live(seed, CALLS)
    assert right, said


@pytest.mark.pure
def test_all_kinds_of_calls_are_in_the_table() -> None:
    assert given.TABLE
    names = [kind.name for kind in kinds.KINDS]
    assert len(set(names)) == len(names) <= kinds.SPACE
    assert len(kinds.innocent()) == 6
