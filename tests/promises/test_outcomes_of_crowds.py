"""Promise 1 where calls end in any order: each call has its own value or error, whatever that is, and however much."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import NotPicklable, RemoteError, WaitTimeout, failed_call
from tests.promises import calls, crowds, values
from tests.promises.conftest import Script
from tests.promises.crowds import MODELS, fitting
from tests.promises.looks import PATIENCE, outcomes, wait_until
from tests.promises.meetings import Meeting

every_model = pytest.mark.parametrize("model", MODELS)


def check(x: int, found: Any) -> None:
    """Is this what `values.outcome` comes to?"""
    match x % 100:
        case 13:
            assert type(found) is ValueError and found.args == (f"no {x}",)
            call = failed_call(found)
            assert call is not None and "_outcome" in call.traceback and call.input == str(x)
        case 29:
            assert type(found) is NotPicklable and "result['deep']" in str(found)
        case 31:
            assert found.dtype == "i8" and len(found) == 50_000 and (found == x).all()
        case 37:
            assert found == bytes([x % 251]) * 300_000
        case 41:
            assert type(found) is RemoteError and str(found).endswith(f"Locked: locked {x}")
        case 43:
            assert found is None
        case 47:
            assert found == "x" * (x % 5000)
        case _:
            assert found == 2 * x


@every_model
@pytest.mark.parametrize("way", ["imap", "imap of a generator", "submit"])
def test_10_000_calls_out_of_order(model: str, way: str) -> None:
    function = fitting(model, values.outcome)
    with Pool(2, model=model) as pool:
        if way == "submit":
            results = [pool.submit(function, x) for x in range(10_000)]
            for x, result in enumerate(results):
                error = result.exception(PATIENCE)
                check(x, result.get(0) if error is None else error)
        else:
            stream = pool.imap(function, range(10_000) if way == "imap" else iter(range(10_000)))
            for x in range(10_000):
                (one,) = outcomes(stream, 1)
                check(x, one)
            assert not outcomes(stream)


@every_model
def test_in_any_order_each_comes_once(model: str) -> None:
    with Pool(2, model=model) as pool:
        found = outcomes(pool.imap_unordered(fitting(model, values.outcome), range(1000)))
    numbers = sorted(one for one in found if isinstance(one, int))
    assert numbers == [2 * x for x in range(1000) if x % 100 not in (13, 29, 31, 37, 41, 43, 47)]
    assert [type(one) for one in found].count(ValueError) == 10
    assert len(found) == 1000


@every_model
def test_ordered_holds_back_and_unordered_does_not(model: str, tmp_path: Path) -> None:
    function = fitting(model, crowds.meet_if)
    with Pool(2, model=model) as pool:
        meeting = Meeting(tmp_path / "meeting")
        given = [(meeting, i == 0, i) for i in range(300)]
        ordered, unordered = pool.imap(function, given), pool.imap_unordered(function, given)
        assert sorted(itertools.islice(unordered, 299)) == [*range(1, 300)]
        with pytest.raises(WaitTimeout):
            ordered.next(0.05)
        meeting.end()
        assert list(unordered) == [0] and list(ordered) == [*range(300)]


@every_model
def test_20_000_values_go_round_in_the_ring(model: str) -> None:
    """About 40 times its room, and five times its outcomes."""
    with Pool(2, model=model, concurrency=200) as pool:
        stream = pool.imap(fitting(model, values.as_text), range(20_000))
        for x, text in enumerate(stream):
            assert text == str(x) * 400


@every_model
def test_large_values_of_every_size(model: str) -> None:
    """About where they are sent beside the ring, and a megabyte."""
    with Pool(2, model=model) as pool:
        for size in [(1 << 16) - 64, 1 << 16, (1 << 16) + 64, 1 << 20]:
            check_size(pool, fitting(model, values.bytes_of), size)


def check_size(pool: Pool, function: Callable[..., Any], size: int) -> None:
    for at, value in enumerate(pool.imap(function, ((x, size) for x in range(200)))):
        assert len(value) == size and value[0] == value[-1] == at


@every_model
def test_a_consumer_that_is_slow(model: str) -> None:
    """Outcomes wait for it, inputs are not pulled for it, and the others' calls go on meanwhile."""
    pulled: list[int] = []

    def pull() -> Iterator[int]:
        for x in itertools.count():
            pulled.append(x)
            yield x

    with Pool(1, model=model, concurrency=10) as pool:
        stream = pool.imap(fitting(model, values.as_text), pull())
        assert next(stream) == "0" * 400
        for i in range(50):
            assert pool.apply(crowds.add, (i, 1)) == i + 1
        assert len(pulled) <= 4097
        for x in range(1, 6000):
            assert next(stream) == str(x) * 400
        assert 6000 <= len(pulled) <= 6000 + 4096


@every_model
def test_a_parent_that_does_not_read_stops_nobody_for_good(model: str, tmp_path: Path) -> None:
    """While its interpreter's lock is held, the ring fills up and its writers wait."""
    function = fitting(model, values.bytes_of)
    with Pool(1, model=model, concurrency=500) as pool:
        stream = pool.imap(function, ((x, 50_000) for x in range(500)))
        sum(range(20_000_000))
        assert sum(map(len, stream)) == 500 * 50_000


@every_model
def test_an_input_that_cannot_be_unpacked_fails_alone(model: str) -> None:
    with Pool(1, model=model) as pool:
        given = [calls.Bomb() if i == 3 else i for i in range(10)]
        found = outcomes(pool.imap(fitting(model, crowds.add), given))
        assert [type(one) for one in found] == [RuntimeError if i == 3 else int for i in range(10)]
        assert type(pool.submit(fitting(model, crowds.add), calls.Bomb()).exception(PATIENCE)) is RuntimeError
        assert pool.apply(fitting(model, crowds.add), (1, 2)) == 3


@every_model
def test_what_pickling_runs_may_raise_anything(model: str) -> None:
    """A value whose `__reduce__` raises, exits or interrupts ends its own call only."""
    with Pool(1, model=model) as pool:
        pid = pool.apply(fitting(model, crowds.pid))
        for error in (ValueError("no"), SystemExit(3), KeyboardInterrupt("mine")):
            results = [pool.submit(fitting(model, values.springs), error if i == 5 else None) for i in range(10)]
            for i, result in enumerate(results):
                failed = result.exception(PATIENCE)
                assert type(failed) is (NotPicklable if i == 5 else type(None))
        assert pool.apply(fitting(model, crowds.pid)) == pid


@every_model
def test_values_of_the_program_itself(model: str, script: Script) -> None:
    printed = script(
        f"""
        import asyncio, time
        from procoro import Pool

        class Point:
            def __init__(self, x): self.x = x

        class Mine(Exception):
            pass

        def plain(x):
            time.sleep(0.001)
            if x % 10 == 3: raise Mine(x)
            return Point(x), lambda: x

        async def coroutine(x):
            await asyncio.sleep(0.001)
            if x % 10 == 3: raise Mine(x)
            return Point(x), lambda: x

        model = {model!r}
        with Pool(2, model=model) as pool:
            results = [pool.submit(coroutine if model == "asyncio" else plain, x) for x in range(100)]
            errors = [result.exception() for result in results]
            print([error.args[0] for error in errors if type(error) is Mine] == list(range(3, 100, 10)))
            values = [result.get() for result, error in zip(results, errors) if error is None]
            print(all(type(point) is Point and function() == point.x for point, function in values), len(values))
        """
    )
    assert printed == "True\nTrue 90\n"


@every_model
def test_what_is_dropped_is_not_kept(model: str) -> None:
    """A result that nobody holds, a stream that is left early: their calls end, and the pool goes on."""
    with Pool(1, model=model) as pool:
        for x in range(1000):
            pool.submit(fitting(model, values.as_text), x)
        stream = pool.imap(fitting(model, values.as_text), itertools.count())
        assert next(stream) == "0" * 400
        del stream
        assert pool.apply(fitting(model, crowds.add), (1, 2)) == 3
        scheduler = pool._conductor._scheduler
        wait_until(lambda: not scheduler.busy(), "all of it has ended")
