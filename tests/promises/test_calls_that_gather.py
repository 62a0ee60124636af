"""Calls that are handed in while others wait gather until those have gone to workers. Whatever is asked about them or
told to the pool meanwhile comes behind them all the same."""

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool, Result
from procoro.errors import PoolClosed, PoolTerminated
from tests.gate import Gate
from tests.promises import calls

PATIENCE = 30.0
MANY = 100


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


@pytest.fixture
def gathered(pool: Pool, gate: Gate) -> list[Result[int]]:
    """One runs, one waits, and these gather. (To ask whether one runs, takes the crank round.)"""
    pool.submit(calls.stand, gate)
    gate.reached()
    waits = pool.submit(calls.double, -1)
    assert not waits.running()
    results = []
    for n in range(MANY):
        results.append(pool.submit(calls.double, n))
        assert not results[-1].running()
    return results


def ended_well(results: list[Result[int]]) -> bool:
    return [result.get(PATIENCE) for result in results] == [2 * n for n in range(MANY)]


def test_they_travel_together(pool: Pool, gathered: list[Result[int]], gate: Gate) -> None:
    assert len(pool._conductor._streams) == 2, "and not one for each call"
    gate.open()
    assert ended_well(gathered)


@pytest.mark.parametrize("end", [Result.cancel, Result.kill])
def test_one_is_cancelled(gathered: list[Result[int]], gate: Gate, end: Callable[[Result[int]], bool]) -> None:
    assert end(gathered[50]) and gathered[50].cancelled()
    gate.open()
    assert [result.get(PATIENCE) for result in gathered[:50]] == [2 * n for n in range(50)]
    assert [result.get(PATIENCE) for result in gathered[51:]] == [2 * n for n in range(51, MANY)]


def test_the_pool_is_closed_and_joined(pool: Pool, gathered: list[Result[int]], gate: Gate) -> None:
    pool.close()
    gate.open()
    pool.join()
    assert ended_well(gathered)


def test_the_pool_is_terminated(pool: Pool, gathered: list[Result[int]]) -> None:
    pool.terminate()
    assert {type(result.exception(PATIENCE)) for result in gathered} == {PoolTerminated}


def test_the_pool_is_dropped(gate: Gate, tmp_path: Path) -> None:
    pool = Pool(1)
    pool.submit(calls.stand, gate)
    gate.reached()
    results = [pool.submit(calls.double, n) for n in range(MANY)]
    del pool
    gc.collect()
    gate.open()
    assert ended_well(results)


def test_its_worker_dies(gathered: list[Result[int]], pool: Pool, gate: Gate) -> None:
    pool.submit(calls.kill_self)
    gate.open()
    assert ended_well(gathered)


def test_others_are_not_held_up(gathered: list[Result[int]], pool: Pool, gate: Gate) -> None:
    """What has a lane of its own, does not wait for them."""
    mapped = pool.map_async(calls.double, range(10))
    gate.open()
    assert mapped.get(PATIENCE) == [2 * n for n in range(10)]
    assert ended_well(gathered)


def test_a_signal_handler_that_closes_and_joins_loses_no_call() -> None:
    """As a program ends well. It comes in the midst of a submit, which holds the pool's lock."""
    pool = Pool(2)
    results = []
    open_batch, interrupts = pool._open_batch, [False]

    def interrupted(*args: Any) -> Any:
        if len(results) >= 10 and not interrupts[0]:
            interrupts[0] = True
            signal.raise_signal(signal.SIGUSR1)
        return open_batch(*args)

    def end_well(*_: object) -> None:
        pool.close()
        pool.join()

    before = signal.signal(signal.SIGUSR1, end_well)
    pool._open_batch = interrupted  # type: ignore[method-assign]
    try:
        while True:
            results.append(pool.submit(calls.double, len(results)))
    except PoolClosed:
        pass
    finally:
        signal.signal(signal.SIGUSR1, before)
        pool.terminate()
    assert [result.get(PATIENCE) for result in results] == [2 * n for n in range(len(results))]


def test_a_call_is_refused_whose_submit_a_handler_has_closed_the_pool_in() -> None:
    pool = Pool(1)
    pool.submit(calls.double, 1).get(PATIENCE)
    open_batch = pool._open_batch

    def closing(*args: Any) -> Any:
        batch = open_batch(*args)
        signal.raise_signal(signal.SIGUSR1)
        return batch

    before = signal.signal(signal.SIGUSR1, lambda *_: pool.close())
    pool._open_batch = closing  # type: ignore[method-assign]
    try:
        with pytest.raises(PoolClosed):
            pool.submit(calls.double, 2)
        pool.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
        pool.terminate()
