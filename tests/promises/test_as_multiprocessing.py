"""`multiprocessing.Pool`'s methods with their meaning: each test runs on both pools."""

import functools
import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import procoro
from procoro.errors import PoolClosed, PoolTerminated
from tests.gate import Gate
from tests.promises import calls
from tests.promises.looks import PATIENCE

Make = Callable[..., Any]


@pytest.fixture(params=["procoro", "multiprocessing"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes pools, and ends them after the test."""
    made: list[Any] = []
    pool = procoro.Pool if request.param == "procoro" else multiprocessing.get_context("fork").Pool

    def make(*args: Any, **kwargs: Any) -> Any:
        made.append(pool(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.terminate()
        one.join()
    made.clear()


def test_apply(make: Make) -> None:
    pool = make(2)
    assert pool.apply(calls.add, (1,)) == 1
    assert pool.apply(calls.add, (1, 2), {"c": 3}) == 6
    assert pool.apply(calls.add, [1, 2], {"c": 3}) == 6
    assert pool.apply(func=calls.add, args=(1,), kwds={"b": 5}) == 6
    with pytest.raises(TypeError):
        pool.apply(calls.add)
    assert pool.apply_async(calls.add, (1,), {"b": 2}).get(PATIENCE) == 3


@pytest.mark.parametrize("chunksize", [None, 1, 7, 5000])
@pytest.mark.parametrize("size", [0, 5, 2500])
def test_maps(make: Make, chunksize: int | None, size: int) -> None:
    pool = make(2)
    values, expected = range(size), [2 * i for i in range(size)]
    assert pool.map(calls.double, values, chunksize) == expected
    assert pool.map(calls.double, iter(values), chunksize=chunksize) == expected
    assert pool.map_async(calls.double, list(values), chunksize).get(PATIENCE) == expected
    assert pool.starmap(calls.add, zip(values, values, strict=True), chunksize) == expected
    assert pool.starmap_async(calls.add, [[i, i] for i in values], chunksize).get(PATIENCE) == expected
    assert list(pool.imap(calls.double, values, chunksize or 1)) == expected
    assert sorted(pool.imap_unordered(calls.double, iter(values), chunksize=chunksize or 1)) == expected
    assert pool.map(calls.double, {3: 1, 4: 2}, chunksize) == [6, 8]
    assert pool.map(calls.double, "ab", chunksize) == ["aa", "bb"]


def test_a_map_raises_what_its_call_raised(make: Make) -> None:
    pool = make(2)
    with pytest.raises(ValueError, match="no 3") as caught:
        pool.map(calls.raise_if_3, range(10))
    assert caught.value.args == ("no 3",)
    assert pool.map(calls.double, [1]) == [2]


def test_an_async_result(make: Make, gate: Gate) -> None:
    pool = make(2)
    result = pool.apply_async(calls.stand, (gate, 5))
    gate.reached()
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0)
    began = time.monotonic()
    assert result.wait(0.05) is None
    assert time.monotonic() - began >= 0.045
    gate.open()
    assert result.get(PATIENCE) == result.get() == 5
    assert result.ready() and result.successful()
    bad = pool.apply_async(calls.raise_if_3, (3,))
    bad.wait(PATIENCE)
    assert bad.ready() and not bad.successful()
    several = pool.map_async(calls.stand_if, [(gate, i == 0, i) for i in range(5)], 1)
    gate.reached()
    with pytest.raises(multiprocessing.TimeoutError):
        several.get(0.01)
    assert not several.ready()
    gate.open()
    assert several.get(PATIENCE) == [0, 1, 2, 3, 4] and several.successful()


def test_an_imap_iterator(make: Make, gate: Gate) -> None:
    pool = make(1)
    stream = pool.imap(calls.stand_if, [(gate, True, 1), (gate, False, 2)])
    gate.reached()
    with pytest.raises(multiprocessing.TimeoutError):
        stream.next(timeout=0.01)
    gate.open()
    assert stream.next(PATIENCE) == 1 and next(stream) == 2
    for _ in range(2):
        with pytest.raises(StopIteration):
            stream.next()


def test_close_takes_no_more_and_join_waits_for_the_rest(make: Make, gate: Gate) -> None:
    pool = make(2)
    result = pool.apply_async(calls.stand, (gate, 1))
    rest = pool.map_async(calls.double, range(1000))
    stream = pool.imap(calls.double, range(100))
    gate.reached()
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    pool.close()
    for refused in (pool.apply_async, pool.map, pool.imap, pool.imap_unordered, pool.map_async, pool.starmap):
        with pytest.raises(ValueError, match="Pool not running"):
            refused(calls.double, (1,))
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass
    gate.open()
    pool.join()
    pool.join()
    assert result.get(0) == 1
    assert rest.get(0) == [2 * i for i in range(1000)]
    assert list(stream) == [2 * i for i in range(100)]


def test_terminate_ends_everything_now(make: Make, gate: Gate) -> None:
    pool = make(2)
    pool.map_async(calls.stand, [gate] * 100, 1)
    gate.reached(), gate.reached()
    pool.terminate()
    pool.terminate()
    pool.join()
    pool.close()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(calls.double, (1,))


def test_with_terminates(make: Make, gate: Gate) -> None:
    with make(2) as pool:
        pool.apply_async(calls.stand, (gate,))
        gate.reached()
    pool.join()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.map(calls.double, [1])


def test_workers_are_recycled(make: Make) -> None:
    pool = make(1, maxtasksperchild=3)
    pids = [pool.apply(calls.pid) for _ in range(10)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3, 1]


def test_recycling_loses_nothing() -> None:
    """Here a task is a call, not a chunk of them."""
    with procoro.Pool(2, maxtasksperchild=7) as pool:
        pids = pool.map(calls.pid, range(200))
        assert max(map(pids.count, set(pids))) <= 7
        assert pool.map(calls.double, range(200), chunksize=50) == [2 * i for i in range(200)]


def test_initializer_and_initargs(make: Make) -> None:
    pool = make(2, calls.set_state, ("x",))
    assert pool.map(calls.get_state, range(20)) == ["x"] * 20


def test_a_pool_cannot_be_pickled(make: Make) -> None:
    with pytest.raises(NotImplementedError, match="cannot be passed between processes or pickled"):
        pickle.dumps(make(1))


def test_terminate_ends_every_call_by_name(gate: Gate) -> None:
    pool = procoro.Pool(2)
    results = [pool.submit(calls.stand, gate) for _ in range(20)]
    mapped = pool.map_async(calls.stand, [gate] * 20)
    stream = pool.imap(calls.stand, iter([gate] * 20))
    done = pool.submit(calls.double, 1)
    gate.reached(), gate.reached()
    pool.terminate()
    for result in results:
        assert isinstance(result.exception(0), PoolTerminated)
    for get in (mapped.get, functools.partial(next, stream), done.get):
        with pytest.raises(PoolTerminated):
            get()
    with pytest.raises(PoolClosed):
        pool.submit(calls.double, 1)


def test_join_with_a_stream_that_nobody_consumes() -> None:
    pool = procoro.Pool(2)
    stream = pool.imap(calls.double, iter(range(20_000)))
    pool.close()
    pool.join()
    assert list(stream) == [2 * i for i in range(20_000)]


def test_close_right_after_submits() -> None:
    for _ in range(20):
        pool = procoro.Pool(1)
        results = [pool.submit(calls.double, i) for i in range(5)]
        pool.close()
        pool.join()
        assert [result.get(0) for result in results] == [0, 2, 4, 6, 8]
