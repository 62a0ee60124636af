"""Streams raise at the failed call's place and go on; everything can be awaited."""

import asyncio
import gc
import itertools
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, as_completed, wait
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import WaitTimeout, WorkerDied
from tests.gate import Gate
from tests.promises import calls
from tests.promises.looks import PATIENCE, outcomes, wait_until


def test_a_failed_call_raises_at_its_place_and_the_stream_goes_on() -> None:
    with Pool(2) as pool:
        for chunk in (None, 1, 7, 5000):
            found = outcomes(pool.imap(calls.raise_if_3, iter(range(1000)), chunk))
            assert len(found) == 1000
            for at, one in enumerate(found):
                if at % 10 == 3:
                    assert isinstance(one, ValueError) and str(one) == f"no {at}"
                else:
                    assert one == 2 * at


def test_a_for_loop_can_be_taken_up_again_behind_a_failure() -> None:
    with Pool(2) as pool:
        stream = pool.imap(calls.raise_if_3, range(25))
        found: list[Any] = []
        while True:
            try:
                for value in stream:
                    found.append(value)  # noqa: PERF402  extend would lose what came before the failure
                break
            except ValueError as error:
                found.append(str(error))
    assert found == [f"no {i}" if i % 10 == 3 else 2 * i for i in range(25)]


def test_next_with_a_timeout_can_be_asked_again(gate: Gate) -> None:
    with Pool(1) as pool:
        stream = pool.imap(calls.stand_if, [(gate, True, 1), (gate, False, 2)])
        gate.reached()
        with pytest.raises(WaitTimeout):
            stream.next(timeout=0.02)
        with pytest.raises(TimeoutError):
            stream.next(0)
        gate.open()
        assert [stream.next(PATIENCE), next(stream)] == [1, 2]
        with pytest.raises(StopIteration):
            next(stream)


def test_unordered_gives_what_is_done_first(gate: Gate) -> None:
    with Pool(2) as pool:
        stream = pool.imap_unordered(calls.stand_if, [(gate, i == 0, i) for i in range(10)])
        assert sorted(next(stream) for _ in range(9)) == list(range(1, 10))
        gate.open()
        assert list(stream) == [0]


def test_ordered_holds_back_what_is_done_first(gate: Gate) -> None:
    with Pool(2) as pool:
        stream = pool.imap(calls.stand_if, [(gate, i == 0, i) for i in range(10)])
        gate.reached()
        with pytest.raises(WaitTimeout):
            stream.next(0.05)
        gate.open()
        assert list(stream) == list(range(10))


def test_a_long_call_does_not_hold_what_was_packed_behind_it(gate: Gate) -> None:
    """The other worker takes it back and runs it."""
    with Pool(2) as pool:
        pool.map(calls.double, range(2000))
        stream = pool.imap_unordered(calls.stand_if, ((gate, i == 500, i) for i in range(1000)))
        assert sorted(itertools.islice(stream, 999)) == [i for i in range(1000) if i != 500]
        gate.open()
        assert list(stream) == [500]


def test_several_maps_and_submits_share_the_pool_fairly(gate: Gate) -> None:
    with Pool(1) as pool:
        long = pool.imap(calls.nap, itertools.repeat(0.002))
        next(long)
        began = time.monotonic()
        assert pool.map(calls.double, range(10)) == [2 * i for i in range(10)]
        assert pool.apply(calls.double, (1,)) == 2
        assert time.monotonic() - began < 5
        del long


def test_everything_can_be_awaited(gate: Gate) -> None:
    async def main() -> None:
        async with Pool(2) as pool:
            assert await pool.submit(calls.double, 1) == 2
            assert await pool.map_async(calls.double, range(5)) == [0, 2, 4, 6, 8]
            assert await pool.apply_async(calls.add, (1, 2), {"c": 3}) == 6
            results = [pool.submit(calls.double, i) for i in range(500)]
            assert await asyncio.gather(*results) == [2 * i for i in range(500)]
            assert [value async for value in pool.imap(calls.double, iter(range(5000)))] == [2 * i for i in range(5000)]
            assert sorted([value async for value in pool.imap_unordered(calls.double, range(9))]) == [
                2 * i for i in range(9)
            ]
            with pytest.raises(ValueError, match="no 3"):
                await pool.submit(calls.raise_if_3, 3)
            with pytest.raises(WorkerDied):
                await pool.submit(calls.kill_self)
            with pytest.raises(ValueError, match="no 3"):
                await pool.map_async(calls.raise_if_3, range(5))
            done = pool.submit(calls.double, 3)
            done.wait(PATIENCE)
            assert await done == 6 and await done == 6
            assert await asyncio.wrap_future(pool.submit(calls.double, 4)) == 8
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_await(pool.submit(calls.double, i))) for i in range(20)]
            assert [task.result() for task in tasks] == [2 * i for i in range(20)]

    asyncio.run(main())


async def _await(result: Any) -> Any:
    return await result


def test_an_async_stream_raises_at_its_place_and_goes_on() -> None:
    async def main() -> list[Any]:
        found: list[Any] = []
        with Pool(2) as pool:
            stream = pool.imap(calls.raise_if_3, iter(range(100)))
            while True:
                try:
                    async for value in stream:
                        found.append(value)  # noqa: PERF401
                    return found
                except ValueError as error:
                    found.append(str(error))

    assert asyncio.run(main()) == [f"no {i}" if i % 10 == 3 else 2 * i for i in range(100)]


def test_the_event_loop_goes_on_meanwhile(gate: Gate) -> None:
    async def main() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with Pool(1) as pool:
            counting = asyncio.create_task(count())
            result = pool.submit(calls.stand, gate, 1)
            while not gate._standing and turns < 50:
                await asyncio.sleep(0.001)
            asyncio.get_running_loop().call_later(0.05, gate.open)
            assert await result == 1
            counting.cancel()
        return turns

    assert asyncio.run(main()) > 50


def test_cancelling_who_awaits_cancels_what_has_not_begun(gate: Gate) -> None:
    async def main() -> None:
        async with Pool(1) as pool:
            running = pool.submit(calls.stand, gate, 1)
            gate.reached()
            waiting = pool.submit(calls.double, 1)
            for result in (running, waiting):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(_await(result), 0.03)
            while not waiting.ready():
                await asyncio.sleep(0.001)
            gate.open()
            assert await running == 1, "a running one goes on"
            with pytest.raises(CancelledError):
                waiting.get(PATIENCE)
            assert waiting.cancelled()

    asyncio.run(main())


def test_an_async_with_that_raises_leaves_nothing(gate: Gate) -> None:
    async def main() -> None:
        async with Pool(2) as pool:
            pool.submit(calls.stand, gate)
            gate.reached()
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        asyncio.run(main())


def test_an_async_function_runs_in_a_worker() -> None:
    with Pool(2) as pool:
        assert pool.map(calls.double_async, range(10)) == [2 * i for i in range(10)]
        assert pool.apply(calls.double_async, (4,)) == 8


def test_results_are_futures(gate: Gate) -> None:
    with Pool(2) as pool:
        results = [pool.submit(calls.double, i) for i in range(300)]
        assert sorted(result.result() for result in as_completed(results, PATIENCE)) == [2 * i for i in range(300)]
        stands = pool.submit(calls.stand, gate)
        gate.reached()
        done, not_done = wait([*results, stands], timeout=0.01)
        assert done == set(results) and not_done == {stands}
        fails = pool.submit(calls.raise_if_3, 3)
        done, not_done = wait([fails, stands], PATIENCE, FIRST_EXCEPTION)
        assert done == {fails} and not_done == {stands}
        gate.open()
        assert wait([stands], PATIENCE).done == {stands}


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
def test_a_call_that_raises_the_end_of_a_stream_does_not_end_it(error: type[Exception]) -> None:
    with Pool(1) as pool:
        for stream in (
            pool.imap(calls.raise_at_3, [(i, error) for i in range(6)]),
            pool.imap_unordered(calls.raise_at_3, [(i, error) for i in range(6)]),
        ):
            assert [next(stream) for _ in range(3)] == [0, 1, 2]
            with pytest.raises(RuntimeError, match=f"raise_at_3 raised {error.__name__}"):
                list(stream)
            assert list(stream) == [4, 5]


def test_a_result_says_that_its_call_raised_the_end_of_an_iteration() -> None:
    with Pool(1) as pool, pytest.raises(StopIteration):
        pool.submit(calls.raise_at_3, (3, StopIteration)).get(PATIENCE)


@pytest.mark.parametrize("imap", [Pool.imap, Pool.imap_unordered])
@pytest.mark.parametrize("iterated", [iter, enumerate, lambda stream: zip(stream)])
def test_an_iterator_over_a_stream_goes_on_behind_a_failure(imap: Any, iterated: Any) -> None:
    def inputs() -> Iterator[int]:
        yield from range(6)
        raise OSError("no more inputs")

    with Pool(1) as pool:
        iterator = iterated(imap(pool, calls.raise_if_3, inputs()))
        outcomes: list[str] = []
        while True:
            try:
                next(iterator)
            except StopIteration:
                break
            except (ValueError, OSError) as error:
                outcomes.append(type(error).__name__)
            else:
                outcomes.append("value")
    assert outcomes == ["value"] * 3 + ["ValueError", "value", "value", "OSError"]


@pytest.mark.parametrize("function", [calls.double, calls.raise_if_3])
def test_several_threads_may_share_an_iterator(function: Any) -> None:
    with Pool(2) as pool:
        for _ in range(10):
            iterator = iter(pool.imap(function, range(2_000), chunksize=7))
            outcomes: list[object] = []

            def take(iterator: Iterator[int] = iterator, outcomes: list[object] = outcomes) -> None:
                while True:
                    try:
                        outcomes.append(next(iterator))
                    except StopIteration:
                        return
                    except ValueError as error:
                        outcomes.append(str(error))

            with ThreadPoolExecutor(4) as threads:
                for done in [threads.submit(take) for _ in range(4)]:
                    done.result(PATIENCE)
            assert len(outcomes) == 2_000 and len(set(outcomes)) == 2_000


COUNT = 20_000  # more than a stream may hold that somebody is to take from


def noted(pulled: list[int]) -> Iterator[int]:
    """So many numbers, each of which is noted when it is pulled."""
    for number in range(COUNT):
        pulled.append(number)
        yield number


def test_a_stream_that_nobody_ever_looked_at_runs_to_its_end() -> None:
    pulled: list[int] = []
    with Pool(1) as pool:
        pool.imap(calls.double, noted(pulled))
        wait_until(lambda: len(pulled) == COUNT, "all inputs are pulled")
        streams = pool._conductor._scheduler.streams
        wait_until(lambda: not streams.by_number, "it has ended")


def test_a_stream_that_was_left_early_holds_no_room() -> None:
    pulled: list[int] = []
    with Pool(1) as pool:
        stream = pool.imap(calls.double, noted(pulled))
        assert next(stream) == 0
        streams = pool._conductor._scheduler.streams
        wait_until(lambda: len(pulled) > 1000, "it is well under way")
        del stream
        wait_until(lambda: not streams.by_number, "it has ended")
        assert streams.generators.items == 0
        assert len(pulled) < COUNT


class Thing:
    """Can be referred to weakly."""


def _thing(number: int) -> Thing:
    return Thing()


def test_a_value_that_was_taken_is_kept_no_longer() -> None:
    """Nor by a neighbour that came with it, nor in a circle until the collector comes."""
    with Pool(1) as pool:
        gc.disable()
        try:
            results = [pool.submit(_thing, number) for number in range(200)]
            refs = [weakref.ref(result.result()) for result in results[:-1]]
            last = results.pop()
            results.clear()
            wait_until(lambda: not any(ref() for ref in refs), "none is kept")
            assert isinstance(last.result(), Thing)
        finally:
            gc.enable()
