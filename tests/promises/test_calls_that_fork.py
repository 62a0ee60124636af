"""Promises 1 and 6, where a call forks: the child is the user's, and has no part in the pool."""

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from procoro import Pool
from procoro.errors import WorkerDied
from tests.gate import Gate
from tests.promises import calls, misbehaviour
from tests.promises.conftest import Script, Start
from tests.promises.looks import PATIENCE, all_idle, gone, kill, template, wait_until, workers

SECONDS = 2.0


@pytest.fixture
def theirs(tmp_path: object) -> Iterator[Gate]:
    """Where children stand; whoever is there at the end is let through."""
    with Gate(f"{tmp_path}/theirs") as gate:
        yield gate


def forked_by(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


def test_a_child_leaves_as_any_program_would(start: Start) -> None:
    process = start(
        """
        import os, sys
        from procoro import Pool

        def fork(how):
            child = os.fork()
            if child == 0:
                print(how, end=".")
                if how == "returns": return "child"
                if how == "returns much": return b"x" * 300_000
                if how == "exits": sys.exit()
                if how == "exits 5": sys.exit(5)
                if how == "exits -1": sys.exit(-1)
                if how == "exits with words": sys.exit("its words")
                raise ValueError("raised in the child")
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        hows = ["returns", "returns much", "exits", "exits 5", "exits -1", "exits with words", "raises"]
        with Pool(1) as pool:
            values = pool.map(fork, hows, chunksize=7)
        print()
        print(values)
        """
    )
    out, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    printed, values = out.splitlines()
    assert printed == "returns.returns much.exits.exits 5.exits -1.exits with words.raises."
    assert values == "[0, 0, 0, 5, 255, 1, 1]"
    assert said.startswith("its words\nTraceback") and said.endswith("\nValueError: raised in the child\n")
    assert said.count("Traceback") == 1


def test_a_child_that_returns_much_and_late_says_nothing_to_the_pool(gate: Gate) -> None:
    """What it returns must not pass for the value of the call, nor be kept."""
    with Pool(1) as pool:
        child, value = pool.submit(misbehaviour.fork_and_return, gate, 300_000).get(PATIENCE)
        assert gate.reached() == child and len(value) == 300_000
        gate.open()
        wait_until(lambda: gone(child), "the child has left")
        assert len(pool.submit(calls.big, 1).get(PATIENCE)) == 1 << 20
        (member,) = pool._conductor._engine._members.values()
        assert not member.blocks


def fork_or_wait_for_the_child(what: str) -> int:
    if what == "fork":
        return os.fork()
    return os.wait()[0]


@pytest.mark.parametrize("seed", range(5))
def test_what_a_child_returns_does_not_stand_in_the_record(seed: int) -> None:
    """A child that returns a number while its parent is in the next call of the same packet."""
    with Pool(1) as pool:
        forked, waited = pool.map(fork_or_wait_for_the_child, ["fork", "wait"], chunksize=2)
    assert forked == waited != 0


def test_an_initializer_that_forks_starts_one_worker(gate: Gate) -> None:
    with Pool(2, misbehaviour.fork_in_the_initializer) as pool:
        assert len(all_idle(pool, gate, 2)) == 2
        assert pool.map(calls.double, range(100)) == [2 * i for i in range(100)]
        assert len(workers()) == 2 and not any(map(forked_by, workers()))


@pytest.mark.parametrize("how", ["close", "terminate"])
def test_a_child_that_lives_on_does_not_hold_the_pool(gate: Gate, theirs: Gate, how: str) -> None:
    """It holds every descriptor that its worker had."""
    with Pool(1) as pool:
        forks = pool.submit(misbehaviour.fork_and_stand, (theirs, gate))
        pid = gate.reached()
        gate.open()
        child = forks.get(PATIENCE)
        assert theirs.reached() == child
        assert pool.map(calls.double, range(100)) == [2 * i for i in range(100)]
        getattr(pool, how)()
        pool.join()
        assert gone(pid)
    assert not gone(child), "it is the user's"
    theirs.open()
    wait_until(lambda: gone(child), "the child has left")


@pytest.mark.parametrize("template_first", [False, True])
def test_a_worker_that_dies_before_its_child_is_missed_at_once(gate: Gate, theirs: Gate, template_first: bool) -> None:
    with Pool(1) as pool:
        forks = pool.submit(misbehaviour.fork_and_stand, (theirs, gate))
        pid, child = gate.reached(), theirs.reached()
        behind = pool.map_async(calls.double, range(100))
        if template_first:
            kill(template().pid)
        os.kill(pid, signal.SIGKILL)
        error = forks.exception(PATIENCE)
        assert isinstance(error, WorkerDied) and error.pid == pid
        assert error.exitcode == (None if template_first else -signal.SIGKILL)
        assert behind.get(PATIENCE) == [2 * i for i in range(100)]
        assert not gone(child)
    theirs.open()
    wait_until(lambda: gone(child), "the child has left")


def test_the_death_of_a_child_is_not_its_workers(gate: Gate, theirs: Gate) -> None:
    with Pool(1) as pool:
        forks = pool.submit(misbehaviour.fork_and_stand, (theirs, gate))
        pid, child = gate.reached(), theirs.reached()
        os.kill(child, signal.SIGKILL)
        gate.open()
        assert forks.get(PATIENCE) == child
        assert pool.apply(calls.pid) == pid


def test_a_daemon_lives_on(theirs: Gate) -> None:
    with Pool(1) as pool:
        assert pool.apply(misbehaviour.fork_a_daemon, (theirs,)) == 0
        daemon = theirs.reached()
        assert pool.apply(calls.double, (1,)) == 2
    assert not gone(daemon)
    theirs.open()
    wait_until(lambda: gone(daemon), "the daemon has left")


def test_when_the_caller_is_killed_its_workers_go_and_what_they_started_lives_on(start: Start, gate: Gate) -> None:
    """As in `multiprocessing`: what a call starts on purpose is the user's. Only the pool's own has to go."""
    process = start(
        """
        import sys
        from procoro import Pool
        from tests.gate import Turnstile
        from tests.promises import misbehaviour

        with Pool(1) as pool:
            pool.apply(misbehaviour.start_programs_that_live_on, (Turnstile(sys.argv[1]),))
        """,
        gate.folder,
    )
    pid = gate.reached()
    mine = [template(process.pid).pid, pid]
    started = forked_by(pid)
    assert len(started) == 2
    try:
        process.kill()
        wait_until(lambda: all(map(gone, mine)), "template and worker are gone", SECONDS)
        assert not any(map(gone, started))
    finally:
        for one in started:
            kill(one)


def test_log_records_of_a_child_arrive(script: Script) -> None:
    said = script(
        """
        import logging, os, sys
        from procoro import Pool
        logging.basicConfig(stream=sys.stdout, format="%(message)s")

        def fork(x):
            child = os.fork()
            logging.warning("child" if child == 0 else "call")
            if child:
                os.waitpid(child, 0)
            return x

        with Pool(1) as pool:
            assert pool.map(fork, [1, 2]) == [1, 2]
            pool.close()
            pool.join()
        """
    )
    assert sorted(said.split()) == ["call"] * 2 + ["child"] * 2
