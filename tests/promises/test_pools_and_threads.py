"""Pools in threads, threads that end, pools one after another, pools and forks."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from procoro.results import Result
from tests.gate import Gate
from tests.promises import calls
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE, kill, template, wait_until


def in_thread(call: Callable[[], Any]) -> Any:
    """Run it in a thread of its own, to the thread's end; what it returned."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and found
    return found[0]


def test_a_pool_made_by_a_thread_that_has_ended() -> None:
    pool = in_thread(lambda: Pool(2))
    with pool:
        assert pool.map(calls.double, range(100)) == [2 * i for i in range(100)]


def test_calls_of_a_thread_that_has_ended(gate: Gate) -> None:
    with Pool(2) as pool:
        result, stream = in_thread(
            lambda: (pool.submit(calls.stand, gate, 5), pool.imap(calls.double, iter(range(1000))))
        )
        gate.reached()
        gate.open()
        assert result.get(PATIENCE) == 5
        assert list(stream) == [2 * i for i in range(1000)]


def test_many_threads_use_one_pool() -> None:
    def use(number: int) -> list[int]:
        found = [pool.apply(calls.double, (number + i,)) for i in range(20)]
        found += pool.map(calls.double, range(number, number + 200))
        found += pool.imap(calls.double, iter(range(number, number + 200)))
        return found

    found: dict[int, list[int]] = {}
    with Pool(2) as pool:
        threads = [threading.Thread(target=lambda n=n: found.update({n: use(n)})) for n in range(0, 8000, 1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    for number, values in found.items():
        assert values == [2 * (number + i) for i in [*range(20), *range(200), *range(200)]]
    assert len(found) == 8


def test_many_threads_make_pools() -> None:
    def use(number: int) -> list[int]:
        with Pool(1) as pool:
            return pool.map(calls.double, range(number, number + 100))

    found: dict[int, list[int]] = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: use(n)})) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {n: [2 * i for i in range(n, n + 100)] for n in range(8)}


def test_two_threads_take_from_one_stream() -> None:
    found: list[int] = []

    def take() -> None:
        while (value := next(stream, None)) is not None:
            found.append(value)

    with Pool(2) as pool:
        stream = pool.imap(calls.double, iter(range(20_000)))
        threads = [threading.Thread(target=take) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert sorted(found) == [2 * i for i in range(20_000)]


@pytest.mark.slow
def test_200_pools_one_after_another() -> None:
    for i in range(200):
        pool = Pool(1)
        if i % 4:
            assert pool.apply(calls.double, (i,)) == 2 * i
        if i % 2:
            pool.close()
            pool.join()
        else:
            pool.terminate()


def test_50_pools_dropped() -> None:
    results: list[Result[int]] = [Pool(1).submit(calls.double, i) for i in range(50)]
    assert [result.get(PATIENCE) for result in results] == [2 * i for i in range(50)]


def test_pools_do_not_disturb_each_other(gate: Gate) -> None:
    with Pool(2) as one, Pool(2) as two:
        standing = one.submit(calls.stand, gate, 1)
        gate.reached()
        dies = two.submit(calls.kill_self)
        assert dies.exception(PATIENCE) is not None
        two.terminate()
        gate.open()
        assert standing.get(PATIENCE) == 1
        assert one.map(calls.double, range(100)) == [2 * i for i in range(100)]


def test_pools_share_a_template_and_all_survive_its_death() -> None:
    with Pool(1) as one, Pool(1) as two:
        assert [one.apply(calls.double, (1,)), two.apply(calls.double, (2,))] == [2, 4]
        kill(template().pid)
        for pool in (one, two):
            kill(pool.apply(calls.pid))
            assert pool.map(calls.double, range(10)) == [2 * i for i in range(10)]
        with Pool(1) as three:
            assert three.apply(calls.double, (3,)) == 6


def test_a_fork_of_the_caller_has_no_part_in_its_pool(script: Script) -> None:
    assert (
        script(
            """
            import os, warnings
            from procoro import Pool
            from tests.promises import calls

            warnings.simplefilter("ignore")
            pool = Pool(2)
            print(pool.apply(calls.double, (1,)), flush=True)
            pid = os.fork()
            if pid == 0:
                try:
                    pool.submit(calls.double, 1)
                except ValueError:
                    with Pool(1) as mine:
                        print(mine.apply(calls.double, (2,)), flush=True)
                os._exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            print(pool.apply(calls.double, (3,)))
            pool.terminate()
            """
        )
        == "2\n4\n7\n6\n"
    )


def test_a_forked_child_that_lives_on_keeps_no_worker_alive(script: Script) -> None:
    assert (
        script(
            """
            import os, signal, warnings
            from procoro import Pool
            from tests.promises import calls, looks

            warnings.simplefilter("ignore")
            read, write = os.pipe()
            if (middle := os.fork()) == 0:
                pool = Pool(2)
                pids = {pool.apply(calls.pid) for _ in range(10)}
                if os.fork() == 0:
                    os.read(read, 1)
                    os._exit(0)
                print(*pids, file=open("pids", "w"), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(middle, 0)
            for pid in open("pids").read().split():
                looks.wait_until(lambda: looks.gone(int(pid)), "it is gone", 2)
            os.write(write, b".")
            print("gone")
            """
        )
        == "gone\n"
    )


def test_a_call_may_fork(script: Script) -> None:
    assert (
        script(
            """
            import os, subprocess, sys
            from procoro import Pool

            def forks(x):
                if (pid := os.fork()) == 0:
                    if x % 3 == 0: return "child"
                    if x % 3 == 1: raise SystemExit(1)
                    os._exit(5)
                os.waitpid(pid, 0)
                return x

            def runs(x):
                return subprocess.run([sys.executable, "-c", f"print({x})"], capture_output=True, text=True).stdout

            with Pool(2) as pool:
                print(pool.map(forks, range(12)), pool.submit(forks, 3).get(), pool.map(runs, [1, 2]))
            """
        )
        == f"{list(range(12))} 3 ['1\\n', '2\\n']\n"
    )


def test_a_call_may_use_a_pool_of_its_own(script: Script) -> None:
    assert (
        script(
            """
            from procoro import Pool

            def inner(x): return x + 1

            def outer(x):
                with Pool(1) as pool:
                    return pool.map(inner, range(x))

            with Pool(2) as pool:
                print(pool.map(outer, [1, 2, 3]))
            """
        )
        == "[[1], [1, 2], [1, 2, 3]]\n"
    )


@pytest.mark.parametrize("number", [1, 3])
def test_the_number_of_workers_is_what_was_asked(number: int, gate: Gate) -> None:
    with Pool(number) as pool:
        results = [pool.submit(calls.stand, gate) for _ in range(number + 2)]
        pids = {gate.reached() for _ in range(number)}
        assert len(pids) == number and os.getpid() not in pids
        gate.close()
        for result in results:
            result.get(PATIENCE)


def test_an_idle_pool_sleeps_also_when_it_was_busy_just_now() -> None:
    """Its thread looks again and again only while answers come within a fraction of a millisecond."""
    with Pool(2) as pool:
        for number in range(300):
            assert pool.submit(abs, -number).get(PATIENCE) == number
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "procoro"]
        status = Path(f"/proc/self/task/{thread.native_id}/stat")
        wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "S", "it sleeps")
        spent = time.process_time()
        threading.Event().wait(1.0)
        assert time.process_time() - spent < 0.05


@pytest.mark.usefixtures("lingering")
def test_a_pool_that_follows_another_finds_its_template() -> None:
    """To start one takes longer than all else that a pool does at its beginning. (One of five, on a busy machine.)"""
    pids = []
    for _ in range(6):
        with Pool(1) as pool:
            assert pool.apply(abs, (-1,)) == 1
            pids.append(template().pid)
    assert len(set(pids)) < len(pids)
