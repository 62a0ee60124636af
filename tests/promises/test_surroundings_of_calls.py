"""What a call finds around it under each model: context variables, names, locals; and what it says gets out whole."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from tests.promises import crowds, moods, surroundings
from tests.promises.conftest import Script, Start
from tests.promises.crowds import MODELS, fitting
from tests.promises.looks import PATIENCE, wait_until
from tests.promises.meetings import Meeting

every_model = pytest.mark.parametrize("model", MODELS)

# ---- context variables


@pytest.mark.parametrize("initializer", [surroundings.set_variable, surroundings.aset_variable])
@pytest.mark.parametrize("model", ["serial", *MODELS, None])
def test_what_the_initializer_sets_is_seen_by_every_call(model: str | None, initializer: Any) -> None:
    with Pool(1, initializer, ("theirs",), model=model) as pool:
        function = surroundings.read_variable if model == "serial" else fitting(model, surroundings.read_variable)
        assert set(pool.map(function, range(200))) == {"theirs"}
        assert pool.apply(surroundings.read_variable) == "theirs"


@every_model
def test_what_a_call_sets_no_other_sees(model: str) -> None:
    with Pool(1, surroundings.set_variable, ("theirs",), model=model) as pool:
        function = fitting(model, surroundings.change_variable)
        found = pool.map(function, range(200))
        assert found == [("theirs", i) for i in range(200)]
        assert pool.apply(function, (7,)) == ("theirs", 7)


# ---- threads


def test_threads_have_the_names_of_their_worker() -> None:
    with Pool(1, model="threads", concurrency=8) as pool:
        names = set(pool.map(surroundings.thread_name, [0.02] * 40))
        worker = pool.apply(surroundings.process_name)
    assert worker.startswith("PoolWorker-")
    assert names == {(f"{worker}_{i}", True) for i in range(8)}, "and they are daemons"


def test_threads_keep_their_locals() -> None:
    with Pool(1, model="threads", concurrency=4) as pool:
        pool.map(surroundings.count_in_a_local, [0.005] * 100)
        counts = Counter(pool.map(surroundings.name_and_count, [0.005] * 100))
        assert len({name for name, _ in counts}) <= 4
        assert max(count for _, count in counts) >= 200 / 4


def test_more_calls_than_threads_and_no_more_threads_than_calls() -> None:
    with Pool(1, model="threads", concurrency=50) as pool:
        pool.map(crowds.nap, [0.001] * 3)
        few = pool.apply(surroundings.number_of_threads)
        assert few <= 1 + 8, "4 calls, each of which may have been taken back from a busy machine and sent again"
        pool.map(crowds.nap, [0.02] * 200)
        assert pool.apply(surroundings.number_of_threads) <= 1 + 50


def test_a_thread_may_run_a_loop_of_its_own() -> None:
    with Pool(1, model="threads") as pool:
        assert pool.map(surroundings.runs_asyncio, range(50)) == [2 * i for i in range(50)]


def test_calls_may_start_threads() -> None:
    with Pool(1, model="threads") as pool:
        assert pool.map(surroundings.starts_threads, range(50)) == [[i, i + 1, i + 2] for i in range(50)]
        assert pool.apply(surroundings.leaves_a_thread) == "it lives on"
        assert pool.apply(crowds.add, (1, 2)) == 3


def test_a_thread_of_the_model_that_ends_by_sys_exit_is_not_lost() -> None:
    with Pool(1, model="threads", concurrency=2) as pool:
        for _ in range(10):
            assert isinstance(pool.submit(moods.raise_it, SystemExit(3)).exception(PATIENCE), SystemExit)
        assert pool.map(crowds.add, range(10)) == [*range(10)]


# ---- what calls say


@every_model
def test_log_records_reach_the_parent(model: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Pool(2, model=model) as pool:
        pids = set(pool.map(fitting(model, surroundings.logs), range(100)))
        pool.close()
        pool.join()
    records = [record for record in caplog.records if record.name == "tests.crowds"]
    assert sorted(record.getMessage() for record in records) == sorted(f"call {i} says" for i in range(100))
    assert {record.process for record in records} == pids
    if model == "threads":
        assert all(str(record.threadName).startswith(f"PoolWorker-{record.process}_") for record in records)


@every_model
def test_a_log_record_stands_in_order_with_its_call(model: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Pool(1, model=model) as pool:
        pool.apply(fitting(model, surroundings.logs), (5,))
        wait_until(lambda: "call 5 says" in caplog.text, "the record is here")


@every_model
def test_printed_lines_are_whole(model: str, script: Script) -> None:
    printed = script(
        f"""
        from procoro import Pool
        from tests.promises import crowds, surroundings

        with Pool(2, model={model!r}) as pool:
            pool.map(crowds.fitting({model!r}, surroundings.prints), range(400))
        """
    )
    lines = printed.splitlines()
    assert sorted(lines) == sorted(f"{i} {'x' * (i * 7)}" for i in range(400))


@every_model
def test_what_is_printed_is_out_when_the_result_is_here(model: str, start: Start, tmp_path: Path) -> None:
    """Also what does not end with a line's end."""
    out = tmp_path / "out"
    with out.open("w") as file:
        process = start(
            f"""
            from pathlib import Path
            from procoro import Pool
            from tests.promises import crowds, surroundings

            with Pool(1, model={model!r}) as pool:
                for i in range(50):
                    pool.apply(crowds.fitting({model!r}, surroundings.prints_a_part), (i,))
                    assert Path("out").read_text().endswith(f"<{{i}}>"), i
                error = pool.submit(crowds.fitting({model!r}, surroundings.prints_and_fails)).exception()
                assert Path("out").read_text().endswith("failing"), error
            """,
            stdout=file,
        )
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")
    assert out.read_text() == "".join(f"<{i}>" for i in range(50)) + "failing"


# ---- BaseExceptions


@pytest.mark.parametrize("model", ["serial", *MODELS, None])
def test_a_base_exception_arrives_as_itself_and_harms_no_neighbour(model: str | None, tmp_path: Path) -> None:
    function = moods.raise_it if model == "serial" else fitting(model, moods.raise_it)
    nap = crowds.nap if model == "serial" else fitting(model, crowds.nap)
    with Pool(1, model=model) as pool:
        pid = pool.apply(crowds.pid)
        for error in surroundings.BASES:
            neighbours = pool.map_async(nap, [0.01] * 10)
            failed: Any = pool.submit(function, error).exception(PATIENCE)
            assert type(failed) is type(error) and failed.args == error.args
            assert neighbours.get(PATIENCE) == [0.01] * 10
        assert pool.apply(crowds.pid) == pid


@pytest.mark.parametrize("model", MODELS)
def test_an_interrupt_of_a_call_is_not_taken_for_ours(model: str, tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1, model=model) as pool:
        waits = pool.submit(fitting(model, crowds.meet), meeting, 1)
        meeting.reached(1)
        stream = pool.imap(fitting(model, moods.raise_it), [KeyboardInterrupt("a"), SystemExit("b"), ValueError("c")])
        for kind in (KeyboardInterrupt, SystemExit, ValueError):
            with pytest.raises(kind):
                stream.next(PATIENCE)
        meeting.end()
        assert waits.get(PATIENCE) == 1
