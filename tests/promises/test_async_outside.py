"""`async` outside: a pool in a program of coroutines, under asyncio's own loop and under uvloop."""

import asyncio
from concurrent.futures import CancelledError
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import CallKilled, PoolClosed, PoolTerminated, WorkerDied
from procoro.results import waiting
from tests.promises import calls, crowds, moods, values
from tests.promises.crowds import MODELS, fitting
from tests.promises.looks import PATIENCE
from tests.promises.meetings import Meeting
from tests.promises.waits import Run, every_loop, meanwhile

every_model = pytest.mark.parametrize("model", ["serial", *MODELS, None])


async def value_of(result: Any) -> Any:
    return await result


async def met(meeting: Meeting, count: int) -> None:
    while len(meeting.names()) < count:
        await asyncio.sleep(0.005)


@every_loop
@every_model
def test_everything_can_be_awaited(run: Run[None], model: str | None) -> None:
    add = crowds.add if model == "serial" else fitting(model, crowds.add)

    async def main() -> None:
        async with Pool(2, model=model) as pool:
            assert await pool.submit(add, 1, b=2) == 3
            assert await pool.apply_async(add, (1,), {"c": 3}) == 4
            assert await pool.map_async(add, range(100)) == [*range(100)]
            assert await pool.starmap_async(add, [(1, 2), (3, 4)]) == [3, 7]
            assert [value async for value in pool.imap(add, range(500))] == [*range(500)]
            assert [value async for value in pool.imap(add, iter(range(500)))] == [*range(500)]
            assert sorted([value async for value in pool.imap_unordered(add, range(500))]) == [*range(500)]
            with pytest.raises(TypeError):
                await pool.submit(add, None)
        with pytest.raises(PoolClosed):
            pool.submit(add, 1)

    run(main())


@every_loop
@every_model
def test_a_thousand_are_gathered(run: Run[None], model: str | None) -> None:
    add = crowds.add if model == "serial" else fitting(model, crowds.add)

    async def main() -> None:
        async with Pool(2, model=model) as pool:
            for _ in range(3):
                assert await asyncio.gather(*(pool.submit(add, i) for i in range(1000))) == [*range(1000)]
            fails = moods.raise_it if model == "serial" else fitting(model, moods.raise_it)
            results = [pool.submit(fails, ValueError(i)) for i in range(20)]
            found = await asyncio.gather(*results, return_exceptions=True)
            assert [one.args for one in found] == [(i,) for i in range(20)]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(value_of(pool.submit(add, i))) for i in range(200)]
            assert [task.result() for task in tasks] == [*range(200)]
            tasks = [asyncio.create_task(value_of(pool.submit(add, i))) for i in range(100)]
            done = [await one for one in asyncio.as_completed(tasks)]
            assert sorted(done) == [*range(100)]

    run(main())


@every_loop
def test_what_ends_together_is_told_together(run: Run[None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop is woken up once for many results."""
    woken = 0

    def counting(tasks: Any) -> None:
        nonlocal woken
        woken += 1
        waiting.wake(tasks)

    monkeypatch.setattr("procoro.results.batch.wake", counting)

    async def main() -> None:
        async with Pool(1) as pool:
            assert await asyncio.gather(*(pool.submit(calls.double, i) for i in range(5000))) == [*range(0, 10_000, 2)]

    run(main())
    assert woken < 2500


@every_loop
def test_a_task_goes_on_as_itself(run: Run[None]) -> None:
    """Many are told by one callback of the loop: each goes on in its own context, and as the current task."""
    variable: ContextVar[int] = ContextVar("variable")

    async def ask(pool: Pool, number: int) -> None:
        variable.set(number)
        task = asyncio.current_task()
        for _ in range(3):
            assert await pool.submit(calls.double, number) == 2 * number
            assert variable.get() == number and asyncio.current_task() is task
        assert await pool.map_async(calls.double, [number]) == [2 * number]
        assert [value async for value in pool.imap(calls.double, [number])] == [2 * number]
        assert variable.get() == number and asyncio.current_task() is task

    async def main() -> None:
        async with Pool(2) as pool:
            await asyncio.gather(*(ask(pool, number) for number in range(200)))

    run(main())


@every_loop
def test_the_loop_turns_meanwhile(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        meeting = Meeting(tmp_path / "meeting")
        async with Pool(1, model="threads") as pool:
            results = [pool.submit(crowds.meet, meeting, i) for i in range(5)]
            await met(meeting, 5)
            assert await meanwhile(value_of(results[0]), meeting.end) == 0
            assert await asyncio.gather(*results) == [*range(5)]
            later = Meeting(tmp_path / "later")
            stream = pool.imap(crowds.meet, [later])
            assert await meanwhile(anext(stream), later.end) is None

    run(main())


@every_loop
def test_a_task_that_is_cancelled_cancels_what_has_not_begun(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        meeting = Meeting(tmp_path / "meeting")
        async with Pool(1, model="asyncio", concurrency=1) as pool:
            running = pool.submit(crowds.ameet, meeting, 1)
            await met(meeting, 1)
            waiting = pool.submit(crowds.ameet, meeting, 2)
            tasks = [asyncio.create_task(value_of(result)) for result in (running, waiting)]
            await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            with pytest.raises((CancelledError, asyncio.CancelledError)):
                await waiting
            assert waiting.cancelled() and not running.done(), "what runs, goes on"
            meeting.end()
            assert await running == 1
        assert meeting.who() == ["1"]

    run(main())


@every_loop
def test_a_timeout_around_a_call_and_kill(run: Run[None], tmp_path: Path) -> None:
    """The code that gives up may end the call, too."""

    async def main() -> None:
        meeting, notes = Meeting(tmp_path / "meeting"), Meeting(tmp_path / "notes")
        async with Pool(1) as pool:
            result = pool.submit(moods.astay, meeting, notes, "mine")
            await met(meeting, 1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await result
            assert not result.done()
            assert result.kill()
            with pytest.raises(CallKilled):
                await result
            assert notes.who() == ["mine CancelledError", "mine finally"]
            assert await pool.submit(crowds.apid) == meeting.names()[0][0]

    run(main())


@every_loop
def test_a_failure_in_a_group_cancels_the_rest(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        meeting = Meeting(tmp_path / "meeting")
        async with Pool(1, model="asyncio", concurrency=2) as pool:
            with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
                async with asyncio.TaskGroup() as group:
                    group.create_task(value_of(pool.submit(crowds.ameet, meeting)))
                    await met(meeting, 1)
                    group.create_task(value_of(pool.submit(moods.araise_it, ValueError("mine"))))
            assert [str(one) for one in caught.value.exceptions] == ["mine"]
            meeting.end()
            assert await pool.submit(crowds.aadd, 1, 2) == 3

    run(main())


@every_loop
@every_model
def test_a_stream_that_is_left_early(run: Run[None], model: str | None) -> None:
    add = crowds.add if model == "serial" else fitting(model, crowds.add)

    async def main() -> None:
        closed = False

        def numbers() -> Any:
            nonlocal closed
            try:
                yield from range(10**9)
            finally:
                closed = True

        async with Pool(1, model=model) as pool:
            async for value in pool.imap(add, numbers()):
                if value == 50:
                    break
            while not closed:
                await asyncio.sleep(0.005)
            assert await pool.submit(add, 1, 2) == 3

    run(main())


@every_loop
def test_errors_stand_at_their_places(run: Run[None]) -> None:
    async def main() -> None:
        found: list[Any] = []
        async with Pool(2, model="asyncio") as pool:
            stream = pool.imap(values.aoutcome, range(200))
            while True:
                try:
                    found.extend([value async for value in stream])
                    break
                except Exception as error:
                    found.append(error)
            assert await pool.submit(crowds.aadd, 1, 2) == 3
            with pytest.raises(WorkerDied):
                await pool.submit(crowds.acall, calls.kill_self)
            assert await pool.submit(crowds.aadd, 1, 2) == 3
        kinds = [type(one).__name__ for one in found if isinstance(one, Exception)]
        assert kinds.count("ValueError") == kinds.count("NotPicklable") == kinds.count("RemoteError") == 2

    run(main())


@every_loop
def test_async_with_ends_what_runs(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        meeting = Meeting(tmp_path / "meeting")
        with pytest.raises(LookupError, match="mine"):  # noqa: PT012
            async with Pool(2, model="asyncio") as pool:
                results = [pool.submit(crowds.ameet, meeting) for _ in range(20)]
                await met(meeting, 20)
                raise LookupError("mine")
        assert {type(result.exception(PATIENCE)) for result in results} == {PoolTerminated}

    run(main())


@every_model
def test_an_async_iterable_as_input_is_refused_in_words(model: str | None) -> None:
    async def numbers() -> Any:
        yield 1

    class Numbers:
        def __aiter__(self) -> Any:
            return numbers()

    add = crowds.add if model == "serial" else fitting(model, crowds.add)
    with Pool(1, model=model) as pool:
        for ask in (pool.imap, pool.imap_unordered, pool.map, pool.starmap, pool.map_async, pool.starmap_async):
            for given, name in ((numbers(), "async_generator"), (Numbers(), "Numbers")):
                with pytest.raises(TypeError, match=f"{name}.* async") as caught:
                    ask(add, given)  # type: ignore[arg-type]
                assert "submit" in str(caught.value), "the way out"
        assert pool.map(add, range(3)) == [0, 1, 2]
