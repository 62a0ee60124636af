"""Promise 13: a call that takes more than its worker may hold is ended, by name."""

import pytest

from procoro import Pool
from procoro.errors import MemoryLimitExceeded
from tests.gate import Gate
from tests.promises import calls
from tests.promises.looks import PATIENCE


def test_a_hog_is_ended_and_named(gate: Gate) -> None:
    with Pool(2, memory_limit="150 MiB") as pool:
        hogs = pool.submit(calls.hoard, 300, gate)
        others = pool.map_async(calls.double, range(1000))
        words = r"hoard\(300, .* MiB, over the memory_limit of 150.0 MiB"
        with pytest.raises(MemoryLimitExceeded, match=words) as caught:
            hogs.get(PATIENCE)
        assert others.get(PATIENCE) == [2 * i for i in range(1000)]
        assert pool.apply(calls.double, (1,)) == 2
    assert isinstance(caught.value, MemoryError)


def test_a_modest_call_is_left_alone(gate: Gate) -> None:
    with Pool(1, memory_limit="300 MiB") as pool:
        held = pool.submit(calls.hoard, 50, gate)
        pid = gate.reached()
        gate.open()
        assert held.get(PATIENCE) == 50 << 20
        assert pool.apply(calls.pid) == pid


def test_calls_behind_a_hog_are_run(gate: Gate) -> None:
    with Pool(1, memory_limit="150 MiB") as pool:
        hogs = pool.submit(calls.hoard, 300, gate)
        behind = [pool.submit(calls.double, i) for i in range(50)]
        assert isinstance(hogs.exception(PATIENCE), MemoryLimitExceeded)
        assert [result.get(PATIENCE) for result in behind] == [2 * i for i in range(50)]


def test_a_memory_error_of_the_calls_own_is_its_exception() -> None:
    with Pool(1) as pool, pytest.raises(MemoryError):
        pool.apply(calls.big, (1 << 40,))


@pytest.mark.parametrize("limit", ["lots", "-1 GiB", 0, -5, 1.5, "1.2.3 GiB", True])
def test_what_is_no_size_is_refused(limit: object) -> None:
    with pytest.raises((TypeError, ValueError), match="memory_limit"):
        Pool(1, memory_limit=limit)  # type: ignore[arg-type]
