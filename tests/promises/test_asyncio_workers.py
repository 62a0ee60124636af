"""model="asyncio": one loop in each worker, each call a task of its own."""

import asyncio
import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import NotPicklable
from tests.promises import crowds, loops, moods
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE
from tests.promises.meetings import Meeting

either = pytest.mark.parametrize("model", ["asyncio", None])


@either
def test_uvloop_turns_it_where_there_is_one(model: str | None) -> None:
    with Pool(1, model=model) as pool:
        module = pool.apply(loops.module_of_the_loop)
    assert module == ("uvloop" if importlib.util.find_spec("uvloop") else "asyncio.unix_events")


def test_without_uvloop_asyncio_turns_it(script: Script, tmp_path: Path) -> None:
    """It does not install everywhere."""
    (tmp_path / "uvloop.py").write_text("raise ImportError('not here')")
    printed = script(
        """
        import asyncio, sys
        from procoro import Pool
        sys.path.insert(0, ".")

        async def name(x):
            await asyncio.sleep(0.01)
            return type(asyncio.get_running_loop()).__module__, x

        with Pool(1) as pool:
            print(pool.map(name, range(3)))
        """
    )
    assert printed == f"{[('asyncio.unix_events', i) for i in range(3)]}\n"


@either
def test_all_calls_of_a_worker_have_one_loop(model: str | None) -> None:
    with Pool(1, model=model) as pool:
        assert len(set(pool.map(loops.number_of_the_loop, range(50)))) == 1
        before = pool.apply(loops.number_of_the_loop)
        pool.apply(crowds.pid)  # a plain call between them
        assert pool.apply(loops.number_of_the_loop) == before


@either
def test_each_call_is_a_task_of_its_own(model: str | None, tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1, model=model) as pool:
        running = pool.map_async(loops.numbers_of_tasks, [meeting] * 50)
        meeting.reached(50)
        meeting.end()
        tasks = running.get(PATIENCE)
    assert all(first == second for first, second in tasks)
    assert len({first for first, _ in tasks}) == 50, "they all lived at once"


@either
def test_structured_concurrency_within_a_call(model: str | None) -> None:
    with Pool(1, model=model) as pool:
        assert pool.map(loops.groups, range(20)) == [[i, i + 1, i + 2] for i in range(20)]
        assert pool.map(loops.gathers, range(20)) == [[i, i + 1, i + 2] for i in range(20)]
        assert pool.apply(loops.times_out, (0.01,)) == "TimeoutError"
        assert pool.apply(loops.waits_for, (0.01,)) == "TimeoutError"
        assert pool.apply(loops.to_thread) == "in a thread"
        error: Any = pool.submit(loops.group_that_fails).exception(PATIENCE)
        assert isinstance(error, ExceptionGroup)
        assert sorted(str(one) for one in error.exceptions) == ["first", "second"]


@either
def test_exceptions_on_the_way_out(model: str | None) -> None:
    with Pool(1, model=model) as pool:
        error: Any = pool.submit(loops.leaves_badly, None).exception(PATIENCE)
        assert (type(error), str(error)) == (OSError, "cannot close") and error.__context__ is None
        error = pool.submit(loops.leaves_badly, "inside").exception(PATIENCE)
        assert (type(error), str(error)) == (OSError, "cannot close")
        assert (type(error.__context__), str(error.__context__)) == (ValueError, "inside")
        assert "__aexit__" in "".join(error.__notes__)
        assert pool.apply(loops.swallows_on_leaving) == "went on"
        assert pool.apply(crowds.aadd, (1, 2)) == 3


@pytest.mark.parametrize("model", ["asyncio", None])
@pytest.mark.parametrize("initializer", [loops.open_session, loops.open_session_at_once])
def test_an_initializer_opens_what_calls_use(model: str | None, initializer: Any) -> None:
    """An async one runs in the loop of the calls: what it makes belongs to that."""
    with Pool(2, initializer, ("theirs",), model=model) as pool:
        assert set(pool.map(loops.uses_session, range(50))) == {("theirs", initializer is loops.open_session)}


@pytest.mark.parametrize("model", ["serial", "threads", "greenlets", "asyncio", None])
def test_an_async_initializer_under_every_model(model: str | None) -> None:
    with Pool(1, loops.open_session, ("theirs",), model=model) as pool:
        assert pool.apply(loops.name_of_session) == "theirs"
        assert pool.map(crowds.add, range(5)) == [*range(5)]


@either
def test_an_async_initializer_that_fails_is_told(model: str | None) -> None:
    with Pool(1, loops.fails_to_open, model=model) as pool:
        error = pool.submit(crowds.aadd, 1).exception(PATIENCE)
    assert type(error).__name__ == "InitializerFailed" and "LookupError: no session" in str(error)


@either
def test_tasks_that_nobody_waits_for_go_on(model: str | None, tmp_path: Path) -> None:
    """They outlive their call, as they would in a program's own loop; at the end they are cancelled."""
    meeting, notes = Meeting(tmp_path / "meeting"), Meeting(tmp_path / "notes")
    with Pool(1, model=model) as pool:
        assert pool.map(loops.starts_and_leaves, [(meeting, notes, i) for i in range(5)]) == [*range(5)]
        meeting.reached(5)
        assert pool.apply(crowds.aadd, (1, 2)) == 3
        meeting.end()
        notes.reached(5)
        left = Meeting(tmp_path / "left")
        pool.apply(loops.starts_and_leaves, ((left, notes, "left"),))
        left.reached(1)
        pool.close()
        pool.join()
    assert sorted(notes.who()) == [*(f"{i} ended" for i in range(5)), "left CancelledError"]


@either
def test_generators_are_closed_at_the_end(model: str | None, tmp_path: Path) -> None:
    notes = Meeting(tmp_path / "notes")
    with Pool(1, model=model) as pool:
        assert pool.apply(loops.leaves_a_generator, (notes,)) == 0
        assert notes.who() == []
        pool.close()
        pool.join()
    assert notes.who() == ["closed"]


@either
@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt("mine"), moods.Mine("mine"), asyncio.CancelledError("mine")], ids=repr
)
def test_what_a_task_of_a_call_raises_is_heard_by_who_awaits_it(model: str | None, error: BaseException) -> None:
    """asyncio lets the first two of them out of the loop, too: there they end nothing."""
    with Pool(1, model=model) as pool:
        pid = pool.apply(crowds.apid)
        neighbours = pool.map_async(crowds.anap, [0.1] * 20)
        found = pool.apply(loops.awaits_a_task_that_raises, (error,))
        assert found == f"{type(error).__name__}: {error}"
        assert neighbours.get(PATIENCE) == [0.1] * 20
        assert pool.apply(crowds.apid) == pid


@either
def test_a_call_that_stops_the_loop_stops_nothing(model: str | None) -> None:
    with Pool(1, model=model) as pool:
        pid = pool.apply(crowds.apid)
        assert pool.map(loops.stops_the_loop, range(20)) == [*range(20)]
        assert pool.apply(crowds.apid) == pid


@either
def test_a_call_that_cancels_itself(model: str | None) -> None:
    with Pool(1, model=model) as pool:
        error = pool.submit(loops.cancels_itself).exception(PATIENCE)
        assert isinstance(error, asyncio.CancelledError)
        assert pool.apply(crowds.aadd, (1, 2)) == 3


@either
def test_a_call_that_forgets_an_await_is_told_so(model: str | None) -> None:
    with Pool(1, model=model) as pool:
        error = pool.submit(loops.forgets_an_await).exception(PATIENCE)
        assert isinstance(error, NotPicklable) and "a coroutine lives in one process" in str(error)


@either
def test_errors_of_the_loop_are_logged(model: str | None, caplog: pytest.LogCaptureFixture) -> None:
    with Pool(1, model=model) as pool:
        assert pool.apply(loops.forgets_a_failure) == 1
        pool.close()
        pool.join()
    (record,) = [one for one in caplog.records if one.name == "asyncio"]
    assert record.levelno == logging.ERROR
    assert "Task exception was never retrieved" in record.getMessage() and "LookupError: forgotten" in caplog.text


def test_streams_of_asyncio_talk_within_a_worker() -> None:
    """A server and its clients, all of them calls."""
    with Pool(1, model="asyncio", concurrency=60) as pool:
        server = pool.submit(loops.serves, 50)
        port = pool.apply(loops.port_of_the_server)
        said = pool.map(loops.asks, [(port, f"words {i}") for i in range(50)])
        assert said == [f"WORDS {i}" for i in range(50)]
        assert server.get(PATIENCE) == 50


@either
def test_a_plain_pool_imports_no_loop(model: str | None) -> None:
    with Pool(1) as pool:
        assert not pool.apply(loops.has_loaded, (["gevent", "uvloop"],))
    assert sys.modules.get("uvloop") is None or model in ("asyncio", None)


async def fails_at_its_end() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise LookupError("its own") from None


def test_a_call_that_raises_its_own_when_its_time_is_up_has_ended_with_that() -> None:
    with Pool(1, timeout=0.2) as pool:
        error = pool.submit(fails_at_its_end).exception(20)
    assert type(error) is LookupError
