"""One keyword chooses how a worker runs calls: what can be said, how many run at once, which function goes where."""

import asyncio
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from tests.promises import crowds
from tests.promises.conftest import Script
from tests.promises.crowds import FORMS, MODELS, fitting
from tests.promises.looks import PATIENCE, outcomes
from tests.promises.meetings import Book, Meeting

every_model = pytest.mark.parametrize("model", MODELS)

# ---- what can be said


@pytest.mark.parametrize("model", ["thread", "", "Serial", "auto", 1, True, b"serial", ["threads"], object])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match=r"^model must be one of 'serial', 'threads', 'greenlets', 'asyncio' or "):
        Pool(1, model=model)


@pytest.mark.parametrize("model", ["serial", *MODELS, None])
@pytest.mark.parametrize("concurrency", ["2", 2.0, True, [2], 1j])
def test_concurrency_is_a_whole_number(model: str | None, concurrency: Any) -> None:
    with pytest.raises(TypeError, match=r"^concurrency must be a whole number, got "):
        Pool(1, model=model, concurrency=concurrency)


@pytest.mark.parametrize("concurrency", [0, -1, 10_001, 1 << 70])
def test_concurrency_has_its_limits(concurrency: int) -> None:
    with pytest.raises(ValueError, match=r"^concurrency must be (>= 1, got|<= 10,000 calls in a worker, got)"):
        Pool(1, model="asyncio", concurrency=concurrency)


def test_a_serial_worker_runs_one_call_at_a_time() -> None:
    words = r'^a serial worker runs one call at a time, got concurrency=2: choose a model of "threads", "greenlets" or '
    with pytest.raises(ValueError, match=words):
        Pool(1, model="serial", concurrency=2)
    with Pool(1, model="serial", concurrency=1) as pool:
        assert pool.apply(abs, (-1,)) == 1


def test_both_are_keywords() -> None:
    with pytest.raises(TypeError, match="positional"):
        Pool(1, None, (), None, "threads")  # type: ignore[misc]


def test_greenlets_refuse_async_functions_in_words() -> None:
    words = r" is an async def function, which greenlets cannot run: .* model=\"asyncio\", or with none$"
    with Pool(1, model="greenlets") as pool:
        maps = (pool.map, pool.starmap, pool.map_async, pool.starmap_async, pool.imap, pool.imap_unordered)
        for form in FORMS.values():
            for ask in (pool.submit, pool.apply, pool.apply_async, *maps):
                with pytest.raises(TypeError, match=words):
                    ask(form, [(1,)])  # type: ignore[operator]
        assert pool.apply(crowds.add, (1, 2)) == 3


# ---- how many run at once


@every_model
@pytest.mark.parametrize("concurrency", [1, 4])
def test_concurrency_is_kept_in_every_worker(model: str, concurrency: int, tmp_path: Path) -> None:
    book = Book(tmp_path / "book")
    with Pool(2, model=model, concurrency=concurrency) as pool:
        crowds.workers_of(pool, model, tmp_path / "start", 2, concurrency)
        pool.map(fitting(model, crowds.enter), [book] * 50 * concurrency)
    assert sorted(book.most().values()) == [concurrency] * 2


@pytest.mark.parametrize("model, count", [("threads", 32), ("greenlets", 100), ("asyncio", 100), (None, 100)])
def test_how_many_run_at_once_if_nothing_is_said(model: str | None, count: int, tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1, model=model) as pool:
        results = [pool.submit(fitting(model, crowds.meet), meeting, i) for i in range(count + 10)]
        assert len(set(meeting.reached(count))) == 1
        pool.submit(fitting(model, crowds.meet), meeting).cancel()  # an answer: by now another would have begun
        assert len(meeting.names()) == count
        meeting.end()
        assert [result.get(PATIENCE) for result in results] == list(range(count + 10))


@pytest.mark.parametrize("model, function", [(None, crowds.enter), ("serial", crowds.enter), ("serial", crowds.aenter)])
def test_one_at_a_time(model: str | None, function: Callable[..., int], tmp_path: Path) -> None:
    book = Book(tmp_path / "book")
    with Pool(2, model=model) as pool:
        results = [pool.submit(function, book, 0.001) for _ in range(100)]
        pool.map(function, [book] * 50)
        for result in results:
            result.get(PATIENCE)
    assert set(book.most().values()) == {1}


@every_model
def test_calls_meet_in_one_worker(model: str, tmp_path: Path) -> None:
    """Each waits for all others: so all run at once. By every way to hand them in."""
    with Pool(1, model=model, concurrency=60) as pool:
        meeting, function = Meeting(tmp_path / "meeting"), fitting(model, crowds.meet)
        given = [(meeting, i) for i in range(10)]
        results = [
            pool.map_async(function, [meeting] * 10),
            pool.starmap_async(function, given),
            *(pool.submit(function, *one) for one in given),
            *(pool.apply_async(function, (meeting,), {"value": 3}) for _ in range(10)),
        ]
        streams = [pool.imap(function, [meeting] * 10), pool.imap_unordered(function, iter([meeting] * 10))]
        assert len(set(meeting.reached(60))) == 1
        meeting.end()
        values = [result.get(PATIENCE) for result in results]
        assert values == [[None] * 10, [*range(10)], *range(10), *[3] * 10]
        assert [list(stream) for stream in streams] == [[None] * 10] * 2


@every_model
def test_two_workers_share_what_runs_long(model: str, tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "meeting")
    with Pool(2, model=model, concurrency=50) as pool:
        crowds.workers_of(pool, model, tmp_path / "start", 2, 50)
        results = [pool.submit(fitting(model, crowds.meet), meeting) for _ in range(40)]
        pids = meeting.reached(40)
        assert min(pids.count(pid) for pid in set(pids)) >= 15 and len(set(pids)) == 2, pids
        meeting.end()
        for result in results:
            result.get(PATIENCE)


# ---- async functions


@pytest.mark.parametrize("model", [None, "asyncio", "serial", "threads"])
def test_every_form_of_an_async_function(model: str | None) -> None:
    with Pool(1, model=model) as pool:
        for function in FORMS.values():
            check_form(pool, function)


def check_form(pool: Pool, function: Callable[..., Any]) -> None:
    assert pool.apply(function, (1, 2)) == 3
    assert pool.apply(function, (1,), {"b": 2}) == 3
    assert pool.submit(function, 1, b=2).get(PATIENCE) == 3
    assert pool.apply_async(function, (1,), {"b": 3}).get(PATIENCE) == 4
    assert pool.map(function, range(5)) == [0, 1, 2, 3, 4]
    assert pool.starmap(function, [(i, i) for i in range(5)]) == [0, 2, 4, 6, 8]
    assert list(pool.imap(function, iter(range(5)))) == [0, 1, 2, 3, 4]
    assert sorted(pool.imap_unordered(function, range(5))) == [0, 1, 2, 3, 4]


def test_async_functions_of_a_program_run_at_once_without_being_asked(script: Script) -> None:
    printed = script(
        """
        import asyncio, functools, os
        from procoro import Pool

        here = []

        async def meet(i):
            '''All wait until all are there: globals of __main__ are shared by the calls of a worker.'''
            here.append(i)
            while len(here) % 30:
                await asyncio.sleep(0.001)
            return i

        class Meets:
            async def __call__(self, i): return await meet(i)
            async def method(self, i): return await meet(i)

        def closure(more):
            async def inner(i, *, times=1): return await meet(i * times) + more
            return inner

        functions = [meet, Meets(), Meets().method, closure(0), functools.partial(closure(1), times=2)]
        with Pool(1) as pool:
            for function in functions:
                print(sum(pool.map(function, range(30))), end=" ")
                print(sum(pool.imap(function, iter(range(30)))), end=" ")
                print(sum(result.get() for result in [pool.submit(function, i) for i in range(30)]))
            results = [pool.submit(closure(5), i, times=3) for i in range(30)]  # a new function each time
            print(sum(result.get() for result in results))
        """
    )
    assert printed.split() == ["435"] * 12 + [str(2 * 435 + 30)] * 3 + [str(3 * 435 + 150)]


@pytest.mark.parametrize("model", [None, "serial", "threads", "asyncio"])
def test_a_coroutine_on_one_path_and_a_value_on_the_other(model: str | None) -> None:
    with Pool(2, model=model) as pool:
        values = [2 * i for i in range(100)]
        assert pool.map(crowds.both_ways, range(100)) == values
        assert list(pool.imap(crowds.both_ways, iter(range(100)), 7)) == values
        assert [pool.submit(crowds.both_ways, i).get(PATIENCE) for i in range(10)] == values[:10]
        assert pool.map(lambda x: crowds.aadd(x), range(5)) == [0, 1, 2, 3, 4]
        assert type(pool.submit(crowds.both_ways, "x").exception(PATIENCE)) is TypeError


def test_greenlets_refuse_a_coroutine_that_a_plain_function_returns() -> None:
    with Pool(1, model="greenlets") as pool:
        found = outcomes(pool.imap(crowds.both_ways, range(100)))
    assert found[::2] == [2 * i for i in range(0, 100, 2)]
    words = 'the call returned a coroutine of aadd, which greenlets cannot run: give it to a pool with model="asyncio"'
    assert all(type(one) is TypeError and str(one).startswith(words) for one in found[1::2])


def test_asyncio_awaits_whatever_can_be_awaited() -> None:
    with Pool(1, model="asyncio") as pool:
        assert pool.map(crowds.Waits, range(5)) == [0, 1, 2, 3, 4]
        assert pool.apply(crowds.nap_as_a_future, (0.001,)) == "future"


# ---- both kinds in one pool


def test_plain_and_async_calls_never_run_together(tmp_path: Path) -> None:
    """In a pool without a model. Each kind comes to its turn: neither is starved by the other."""
    book, enough = Book(tmp_path / "book"), 300
    with Pool(2, concurrency=20) as pool:
        plain = [pool.submit(crowds.enter, book, 0.001, "plain") for _ in range(enough)]
        many = [pool.submit(crowds.aenter, book, 0.005, "async") for _ in range(enough)]
        plain += [pool.submit(crowds.enter, book, 0.001, "plain") for _ in range(enough)]
        streams = pool.imap(lambda x: x + 1, iter(range(500))), pool.imap(crowds.aadd, iter(range(500)))
        assert [list(stream) for stream in streams] == [[*range(1, 501)], [*range(500)]]
        for result in plain + many:
            result.get(PATIENCE)
    kinds = book.kinds_at_once()
    assert kinds == {frozenset({"plain"}), frozenset({"async"})}


@pytest.mark.parametrize("first", ["plain", "async"])
def test_an_endless_stream_of_one_kind_does_not_starve_the_other(first: str) -> None:
    endless = {"plain": crowds.nap, "async": crowds.anap}
    other = crowds.aadd if first == "plain" else crowds.add
    with Pool(1) as pool:
        stream = pool.imap_unordered(endless[first], iter(lambda: 0.002, None))
        for _ in range(100):
            next(stream)
        for i in range(10):
            result = pool.submit(other, i)
            while not result.ready():
                next(stream)
            assert result.get(0) == i
        assert pool.submit(other, 1).get(PATIENCE) == 1, "while nobody takes from the stream"
        stream.close()


def test_a_plain_call_waits_until_long_async_ones_have_ended(tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1) as pool:
        waits = [pool.submit(crowds.ameet, meeting, i) for i in range(5)]
        meeting.reached(5)
        plain = pool.submit(crowds.pid)
        others = [pool.submit(crowds.aadd, i) for i in range(5)]
        assert not plain.ready()
        meeting.end()
        assert plain.get(PATIENCE) == meeting.names()[0][0]
        assert [result.get(PATIENCE) for result in waits + others] == [*range(5)] * 2


@every_model
def test_under_a_model_both_kinds_run_together(model: str, tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1, model=model) as pool:
        waits = pool.submit(fitting(model, crowds.meet), meeting, 1)
        meeting.reached(1)
        assert pool.apply(crowds.add, (1, 2)) == 3
        if model != "greenlets":
            assert pool.apply(crowds.aadd, (1, 2)) == 3
        meeting.end()
        assert waits.get(PATIENCE) == 1


@every_model
@pytest.mark.parametrize("beside", [0, 1])
def test_who_gives_one_call_after_another_is_told_of_each_at_once(model: str, beside: int, tmp_path: Path) -> None:
    """Not after the 2 ms for which outcomes are gathered where many calls run."""
    meeting = Meeting(tmp_path)
    with Pool(1, model=model, concurrency=100) as pool:
        standing = [pool.submit(fitting(model, crowds.meet), meeting) for _ in range(beside)]
        meeting.reached(beside)
        took = []
        for number in range(200):
            began = time.perf_counter()
            assert pool.submit(fitting(model, crowds.add), number).get(PATIENCE) == number
            took.append(time.perf_counter() - began)
        assert sorted(took)[20] < 0.0015
        meeting.end()
        for result in standing:
            result.get(PATIENCE)


def test_pools_of_all_models_side_by_side() -> None:
    pools = [Pool(1, model=model) for model in ("serial", *MODELS, None)]
    try:
        results = [pool.map_async(crowds.add, range(200)) for pool in pools]
        assert [result.get(PATIENCE) for result in results] == [[*range(200)]] * 5
        assert [pool.apply(crowds.is_patched) for pool in pools] == [False, False, True, False, False]
        assert os.getpid() not in [pool.apply(crowds.pid) for pool in pools]
        assert not crowds.is_patched() and not asyncio.iscoroutinefunction(os.getpid)
    finally:
        for pool in pools:
            pool.terminate()


def collector_of(model: str, threshold: int) -> int:
    with Pool(1, gc.set_threshold, (threshold, 10, 10), model=model, concurrency=500) as pool:
        return pool.apply(gc.get_threshold)[0]


@pytest.mark.parametrize("model", ["greenlets", "asyncio"])
def test_the_collector_looks_less_often_where_many_calls_run(model: str) -> None:
    """What they hold is no garbage. One who has switched it off, or wants even less of it, has that."""
    assert [collector_of(model, threshold) for threshold in (700, 0, 100_000)] == [5000, 0, 100_000]
