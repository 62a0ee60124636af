"""Promises 1 and 2: whatever a call does to its worker, it alone fails, and by name."""

import os
import signal
from collections.abc import Callable

import pytest

from procoro import Pool
from procoro.errors import WorkerDied, failed_call
from tests.gate import Gate
from tests.promises import calls
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE, all_idle, errors_in, kill, outcomes, template, wait_until, workers

DEATHS = [
    (calls.kill_self, -signal.SIGKILL, "SIGKILL"),
    (calls.segfault, -signal.SIGSEGV, "SIGSEGV"),
    (calls.exit_3, 3, "exit code 3"),
    (calls.exit_0, 0, "exit code 0"),
    (calls.exit_in_thread, 4, "exit code 4"),
]


@pytest.mark.parametrize("die, exitcode, words", DEATHS)
def test_of_many_submits_one_fails(die: Callable[[], None], exitcode: int, words: str) -> None:
    with Pool(2) as pool:
        before = [pool.submit(calls.double, i) for i in range(200)]
        dies = pool.submit(die)
        after = [pool.submit(calls.double, i) for i in range(200)]
        with pytest.raises(WorkerDied) as caught:
            dies.get(PATIENCE)
        assert [result.get(PATIENCE) for result in before + after] == [2 * i for i in range(200)] * 2
    error = caught.value
    assert error.exitcode == exitcode
    assert die.__name__ in str(error) and words in str(error) and str(error.pid) in str(error)
    assert error.pid not in (0, os.getpid())
    call = failed_call(error)
    assert call is not None and call.function == die.__name__ and call.attempt == 1 and call.pid == error.pid


def test_of_a_map_the_culprits_fail_and_all_else_has_its_value() -> None:
    with Pool(2) as pool:
        found = outcomes(pool.imap(calls.die_if_7, range(1000)))
        assert pool.map(calls.double, range(10)) == [2 * i for i in range(10)]
    assert len(found) == 1000
    failed = errors_in(found)
    assert sorted(failed) == [100 * i + 7 for i in range(10)]
    for at, error in failed.items():
        assert isinstance(error, WorkerDied)
        assert error.call.startswith(f"die_if_7({at}) [call {at}]")
    assert all(value == 2 * at for at, value in enumerate(found) if at not in failed)


def test_map_raises_the_first_culprit() -> None:
    with Pool(2) as pool:
        with pytest.raises(WorkerDied, match=r"die_if_7\(7\) \[call 7\]"):
            pool.map(calls.die_if_7, range(1000))
        assert pool.map(calls.double, range(10)) == [2 * i for i in range(10)]


def test_sys_exit_in_a_call_is_its_exception_and_costs_no_worker() -> None:
    with Pool(1) as pool:
        worker = pool.apply(calls.pid)
        with pytest.raises(SystemExit) as caught:
            pool.apply(calls.leave, (5,))
        assert caught.value.code == 5
        with pytest.raises(KeyboardInterrupt, match="mine"):
            pool.apply(calls.raise_interrupt)
        assert pool.apply(calls.pid) == worker


def test_a_killed_worker_that_was_idle_costs_nothing(gate: Gate) -> None:
    with Pool(2) as pool:
        old = all_idle(pool, gate, 2)
        for pid in old:
            kill(pid)
        assert pool.map(calls.double, range(100)) == [2 * i for i in range(100)]
        assert not old & all_idle(pool, gate, 2)


def test_an_idle_worker_killed_just_before_a_call_costs_at_most_that_call() -> None:
    with Pool(1) as pool:
        for _ in range(10):
            os.kill(pool.apply(calls.pid), signal.SIGKILL)
            result = pool.submit(calls.double, 4)
            error = result.exception(PATIENCE)
            if error is None:
                assert result.get(0) == 8
            else:
                assert isinstance(error, WorkerDied) and error.exitcode == -signal.SIGKILL
            assert pool.apply(calls.double, (5,)) == 10


def test_all_workers_killed_at_once(gate: Gate) -> None:
    with Pool(3) as pool:
        standing = [pool.submit(calls.stand, gate, i) for i in range(3)]
        pids = [gate.reached() for _ in standing]
        waiting = [pool.submit(calls.double, i) for i in range(300)]
        stream = pool.imap(calls.double, iter(range(300)))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        died = [result.exception(PATIENCE) for result in standing]
        assert [result.get(PATIENCE) for result in waiting] == [2 * i for i in range(300)]
        assert list(stream) == [2 * i for i in range(300)]
    assert all(isinstance(error, WorkerDied) for error in died)
    assert {getattr(error, "pid", 0) for error in died} == set(pids)


def test_workers_killed_while_they_start_are_replaced() -> None:
    with Pool(2) as pool:
        for _ in range(5):
            wait_until(workers, "a worker has been started")
            for pid in workers():
                kill(pid)
        assert pool.map(calls.double, range(100)) == [2 * i for i in range(100)]


def test_a_killed_template_fails_no_call(gate: Gate) -> None:
    with Pool(2) as pool:
        standing = [pool.submit(calls.stand, gate, i) for i in range(2)]
        pids = {gate.reached() for _ in standing}
        kill(template().pid)
        gate.open(2)
        assert [result.get(PATIENCE) for result in standing] == [0, 1]
        assert pool.map(calls.double, range(100)) == [2 * i for i in range(100)]
        assert pids == all_idle(pool, gate, 2), "workers outlive their template"


def test_a_worker_that_dies_after_its_template_is_blamed_and_replaced(gate: Gate) -> None:
    with Pool(2) as pool:
        standing = pool.submit(calls.stand, gate)
        pid = gate.reached()
        kill(template().pid)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="how it ended is not known") as caught:
            standing.get(PATIENCE)
        assert caught.value.pid == pid and caught.value.exitcode is None
        assert pid not in all_idle(pool, gate, 2)
        assert pool.map(calls.double, range(100)) == [2 * i for i in range(100)]


def test_template_and_all_workers_killed_at_once(gate: Gate) -> None:
    with Pool(2) as pool:
        standing = [pool.submit(calls.stand, gate, i) for i in range(2)]
        pids = [gate.reached() for _ in standing]
        waiting = pool.map_async(calls.double, range(100))
        for pid in (template().pid, *pids):
            os.kill(pid, signal.SIGKILL)
        for result in standing:
            assert isinstance(result.exception(PATIENCE), WorkerDied)
        assert waiting.get(PATIENCE) == [2 * i for i in range(100)]


def test_the_template_killed_while_nothing_runs(gate: Gate) -> None:
    with Pool(2) as pool:
        all_idle(pool, gate, 2)
        kill(template().pid)
        assert pool.map(calls.double, range(100)) == [2 * i for i in range(100)]
    with Pool(2) as pool:
        assert pool.map(calls.double, range(100)) == [2 * i for i in range(100)]


def test_calls_that_all_die_are_each_told_so() -> None:
    with Pool(2) as pool:
        results = [pool.submit(calls.exit_3) for _ in range(15)]
        assert [type(result.exception(PATIENCE)) for result in results] == [WorkerDied] * 15
        assert pool.apply(calls.double, (1,)) == 2


def test_how_a_worker_ended_is_known_though_the_caller_ignores_the_ends_of_its_children(script: Script) -> None:
    """As daemons do; it is inherited, also over an exec."""
    printed = script(
        """
        import os, signal, sys
        from procoro import Pool, Process

        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with Pool(1, maxtasksperchild=1) as pool:
            print(pool.submit(lambda: os.kill(os.getpid(), signal.SIGKILL)).exception(20).exitcode)
            print(pool.map(abs, [-1, -2]))
        process = Process(target=sys.exit, args=(7,))
        process.start()
        process.join()
        print(process.exitcode)
        """
    )
    assert printed == "-9\n[1, 2]\n7\n"
