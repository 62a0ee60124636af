"""Promises 1 and 6 where a call forks among others: the child has no part in the pool, nor in its neighbours."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from procoro import Pool
from procoro.errors import WorkerDied
from tests.gate import Gate
from tests.promises import crowds, forking, misbehaviour
from tests.promises.conftest import Start
from tests.promises.crowds import MODELS, fitting
from tests.promises.looks import PATIENCE, gone, kill, wait_until
from tests.promises.meetings import Meeting

every_model = pytest.mark.parametrize("model", MODELS)


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Gate]:
    """Where children stand; whoever is there at the end is let through."""
    with Gate(tmp_path / "theirs") as gate:
        yield gate


@every_model
def test_a_child_leaves_as_any_program_would(start: Start, model: str) -> None:
    process = start(
        f"""
        from procoro import Pool
        from tests.promises import forking
        from tests.promises.crowds import fitting

        function = fitting({model!r}, forking.forks)
        with Pool(1, model={model!r}) as pool:
            values = [pool.apply(function, (how,)) for how in forking.HOWS]
            print(flush=True)
            print(values, flush=True)
            print(sorted(pool.map(function, forking.HOWS)) == sorted(values))
        """
    )
    out, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    printed, values, *_, again = out.splitlines()
    assert printed == "".join(f"{how}." for how in forking.HOWS)
    assert values == "[0, 0, 0, 5, 255, 1, 1]"
    assert again.endswith("True")
    assert said.startswith("its words\nTraceback"), "then both again, in any order"
    assert said.count("Traceback") == said.count("its words\n") == said.count("ValueError: raised in the child\n") == 2


@every_model
def test_neighbours_end_once(model: str, tmp_path: Path) -> None:
    """Those that run at the fork, and those that wait for a place."""
    notes = Meeting(tmp_path / "notes")
    with Pool(1, model=model, concurrency=20) as pool:
        function = fitting(model, forking.naps_and_signs)
        neighbours = [pool.submit(function, notes, i) for i in range(100)]
        forks = [pool.submit(fitting(model, forking.forks), "exits 5") for _ in range(5)]
        neighbours += [pool.submit(function, notes, i) for i in range(100, 200)]
        assert [result.get(PATIENCE) for result in forks] == [5] * 5
        assert [result.get(PATIENCE) for result in neighbours] == [*range(200)]
    assert sorted(map(int, notes.who())) == [*range(200)]
    assert len({pid for pid, _ in notes.names()}) == 1, "none of them in a child"


def test_a_child_may_block_as_long_as_it_likes_under_greenlets(tmp_path: Path) -> None:
    """It waits by its own hub's means, uses threads and starts programs; the copies of its neighbours stand still."""
    notes = Meeting(tmp_path / "notes")
    with Pool(1, model="greenlets", concurrency=20) as pool:
        neighbours = [pool.submit(forking.naps_and_signs, notes, i) for i in range(50)]
        forks = [pool.submit(forking.forks_one_that_works, notes) for _ in range(3)]
        assert [result.get(PATIENCE) for result in forks] == [7] * 3
        assert [result.get(PATIENCE) for result in neighbours] == [*range(50)]
    who = notes.who()
    assert who.count("child") == who.count("thread") == 3
    assert sorted(int(one) for one in who if one.isdigit()) == [*range(50)]


@pytest.mark.parametrize("model", ["asyncio", None])
def test_a_child_that_awaits_ends_there(model: str | None, tmp_path: Path) -> None:
    """Its loop would run the copies of all its neighbours: it ends within one turn."""
    notes, meeting = Meeting(tmp_path / "notes"), Meeting(tmp_path / "meeting")
    with Pool(1, model=model, concurrency=20) as pool:
        assert pool.apply(forking.forks_and_awaits, (notes,)) == 1
        neighbours = [pool.submit(crowds.ameet, meeting, i) for i in range(10)]
        meeting.reached(10)
        assert pool.apply(forking.forks_and_awaits, (notes,)) == 1
        meeting.end()
        assert [result.get(PATIENCE) for result in neighbours] == [*range(10)]
    assert notes.who() == [], "it did not go on"


@every_model
def test_a_child_that_returns_much_says_nothing_to_the_pool(model: str) -> None:
    with Pool(1, model=model) as pool:
        for _ in range(3):
            assert pool.apply(fitting(model, forking.forks), ("returns much",)) == 0
            assert pool.map(fitting(model, crowds.add), range(20)) == [*range(20)]
        (member,) = pool._conductor._engine._members.values()
        assert not member.blocks


@every_model
@pytest.mark.parametrize("how", ["close", "terminate"])
def test_a_child_that_lives_on_does_not_hold_the_pool(model: str, how: str, gate: Gate, theirs: Gate) -> None:
    with Pool(1, model=model) as pool:
        pid = pool.apply(fitting(model, crowds.pid))
        child = pool.apply(fitting(model, forking.forks_and_leaves_it), (theirs,))
        assert theirs.reached() == child
        assert pool.map(fitting(model, crowds.add), range(100)) == [*range(100)]
        getattr(pool, how)()
        pool.join()
        assert gone(pid)
    assert not gone(child), "it is the user's"
    theirs.open()
    wait_until(lambda: gone(child), "the child has left")


@every_model
def test_a_worker_that_dies_before_its_child_is_missed_at_once(model: str, theirs: Gate, tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1, model=model) as pool:
        waits = pool.submit(fitting(model, crowds.meet), meeting)
        (pid,) = meeting.reached(1)
        child = pool.apply(fitting(model, forking.forks_and_leaves_it), (theirs,))
        assert theirs.reached() == child and psutil.Process(child).ppid() == pid
        kill(pid)
        error = waits.exception(PATIENCE)
        assert isinstance(error, WorkerDied) and error.suspects == 1
        assert pool.apply(fitting(model, crowds.add), (1, 2)) == 3
        assert not gone(child)
    theirs.open()
    wait_until(lambda: gone(child), "the child has left")


@pytest.mark.parametrize("model", ["threads", "greenlets"])
def test_a_daemon_lives_on(model: str, theirs: Gate) -> None:
    with Pool(1, model=model) as pool:
        assert pool.apply(misbehaviour.fork_a_daemon, (theirs,)) == 0
        daemon = theirs.reached()
        assert pool.apply(crowds.add, (1, 2)) == 3
    assert not gone(daemon)
    theirs.open()
    wait_until(lambda: gone(daemon), "the daemon has left")


@every_model
def test_processes_of_multiprocessing_in_calls(model: str) -> None:
    """They are forked as well."""
    with Pool(1, model=model, concurrency=4) as pool:
        assert pool.map(fitting(model, forking.runs_a_process), range(6)) == [0] * 6
        assert pool.map(fitting(model, crowds.add), range(20)) == [*range(20)]
