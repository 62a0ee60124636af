"""`concurrent.futures.Executor` with its documented meaning: most tests run on both executors."""

import asyncio
import concurrent.futures as cf
import copy
import gc
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from typing import Any

import pytest

import procoro
from procoro import Executor
from procoro.errors import InitializerFailed, NotPicklable, PoolClosed, PoolTerminated, WorkerDied
from tests.gate import Gate
from tests.programs import ROOT
from tests.promises import calls
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE, wait_until

Make = Callable[..., cf.Executor]
PEER = multiprocessing.get_context("forkserver")


class Standard(cf.ProcessPoolExecutor):
    """The standard library's, by the start method that harms no threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"mp_context": PEER, **kwargs})


@pytest.fixture(params=["procoro", "concurrent.futures"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes executors, and ends them after the test."""
    made: list[cf.Executor] = []
    kind = procoro.Executor if request.param == "procoro" else Standard

    def make(*args: Any, **kwargs: Any) -> cf.Executor:
        made.append(kind(*args, **kwargs))
        return made[-1]

    yield make
    for executor in made:
        executor.shutdown()
    made.clear()


@pytest.fixture(scope="module", autouse=True)
def _forkserver() -> Iterator[None]:
    """The peer's server and tracker start once, and are stopped at the end: they are not ours to leave behind."""
    from multiprocessing import forkserver, resource_tracker

    forkserver.ensure_running()
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------ submit


def test_submit(make: Make) -> None:
    executor = make(2)
    assert executor.submit(pow, 2, 8).result(PATIENCE) == 256
    assert executor.submit(calls.add, 1, b=2, c=3).result(PATIENCE) == 6
    assert executor.submit(dict, fn=1, self=2).result(PATIENCE) == {"fn": 1, "self": 2}
    with pytest.raises(TypeError):
        executor.submit(fn=calls.add)  # type: ignore[call-arg]


def test_a_future_is_one(make: Make) -> None:
    future = make(1).submit(calls.double, 4)
    assert isinstance(future, cf.Future)
    assert future.result(PATIENCE) == 8 and future.exception() is None
    assert future.done() and not future.running() and not future.cancelled() and not future.cancel()
    assert "state=finished returned int" in repr(future)


def test_an_exception_arrives_with_its_traceback(make: Make) -> None:
    future = make(1).submit(calls.add, "a", 1)  # type: ignore[arg-type]
    error = future.exception(PATIENCE)
    assert isinstance(error, TypeError) and future.exception() is error
    assert "finished raised TypeError" in repr(future)
    with pytest.raises(TypeError):
        future.result()


def test_result_gives_up_waiting(make: Make, gate: Gate) -> None:
    executor = make(1)
    future = executor.submit(calls.stand, gate, 1)
    gate.reached()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    with pytest.raises(cf.TimeoutError):
        future.exception(timeout=0)
    wait_until(future.running, "it is seen to run")
    assert not future.cancel()
    gate.open()
    assert future.result(PATIENCE) == 1


def test_callbacks_come_once_and_in_their_order(make: Make, gate: Gate) -> None:
    executor, seen = make(1), []
    future = executor.submit(calls.stand, gate, 5)
    for name in "abc":
        future.add_done_callback(lambda done, name=name: seen.append((name, done.result())))  # type: ignore[misc]
    gate.reached()
    gate.open()
    wait_until(lambda: len(seen) == 3, "all have been called")
    future.add_done_callback(lambda done: seen.append(("late", done.result())))
    assert seen == [("a", 5), ("b", 5), ("c", 5), ("late", 5)]


def test_nothing_refers_to_what_was_handed_in_and_out(make: Make) -> None:
    executor = make(1)

    value = executor.submit(calls.Tagged).result(PATIENCE)
    handed_out = weakref.ref(value)
    del value
    method_of = calls.Tagged()
    handed_in = weakref.ref(method_of)
    executor.submit(method_of.tag).result(PATIENCE)
    del method_of
    for seen in (handed_out, handed_in):
        wait_until(lambda seen=seen: gc.collect() is not None and seen() is None, "it is gone")  # type: ignore[misc]


# ------------------------------------------------------------------------------------ wait, as_completed


def test_wait_and_as_completed_mix_them_with_other_futures(make: Make, gate: Gate) -> None:
    executor = make(2)
    with cf.ThreadPoolExecutor(1) as threads:
        quick: list[cf.Future[Any]] = [executor.submit(calls.double, i) for i in range(5)]
        quick += [threads.submit(calls.double, i) for i in range(5)]
        slow = executor.submit(calls.stand, gate, "slow")
        gate.reached()
        assert {future.result() for future in itertools.islice(cf.as_completed([*quick, slow]), 10)} == {0, 2, 4, 6, 8}
        done, left = cf.wait([*quick, slow], return_when=cf.FIRST_COMPLETED)
        assert done == set(quick) and left == {slow}
        with pytest.raises(TimeoutError):
            list(cf.as_completed([slow], timeout=0.01))
        gate.open()
        assert cf.wait([*quick, slow], PATIENCE).not_done == set()
        bad = executor.submit(calls.add, "a", 1)  # type: ignore[arg-type]
        assert bad in cf.wait([bad, slow], PATIENCE, cf.FIRST_EXCEPTION).done
    assert set(cf.as_completed(quick * 2)) == set(quick), "each once"


def test_who_looks_while_it_ends_is_told_once(make: Make) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        executor = make(2)
        for _ in range(300 if type(executor) is procoro.Executor else 3):
            sent = [executor.submit(abs, i) for i in range(50)]
            assert len(list(cf.as_completed(sent, PATIENCE))) == 50  # it raises KeyError if it is told twice
            assert cf.wait(sent, PATIENCE).not_done == set()
    finally:
        sys.setswitchinterval(interval)


def test_wait_sees_what_is_cancelled(make: Make, gate: Gate) -> None:
    executor = make(1)
    running = executor.submit(calls.stand, gate, 1)
    gate.reached()
    waiting = [executor.submit(calls.double, i) for i in range(20)]
    last = waiting[-1]
    seen: list[bool] = []
    last.add_done_callback(lambda done: seen.append(done.cancelled()))
    assert last.cancel() and last.cancel() and last.cancelled() and last.done()
    wait_until(lambda: seen == [True], "the callback was called")
    with pytest.raises(cf.CancelledError):
        last.result()
    gate.open()
    done, left = cf.wait([running, *waiting], PATIENCE)
    assert not left and last in done
    assert [future.result() for future in waiting[:-1]] == [2 * i for i in range(19)]


# ------------------------------------------------------------------------------------------------- map


def test_map(make: Make) -> None:
    executor = make(2)
    assert list(executor.map(pow, range(10), range(10))) == [i**i for i in range(10)]
    assert list(executor.map(pow, range(10), range(3), chunksize=3)) == [1, 1, 4]
    assert list(executor.map(calls.double, [1, "a", (2,)])) == [2, "aa", (2, 2)]
    assert list(executor.map(calls.double, (i for i in range(100)), chunksize=7)) == [2 * i for i in range(100)]
    assert list(executor.map(calls.double, [])) == list(executor.map(calls.double)) == []
    assert next(executor.map(calls.double, iter("ab"))) == "aa"


def test_map_ends_with_the_first_exception(make: Make) -> None:
    results = make(2).map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert [next(results), next(results)] == [(0, 1), (0, 1)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_map_keeps_nothing_of_what_it_gave(make: Make) -> None:
    for value in make(2).map(calls.tagged, range(10)):
        seen = weakref.ref(value)
        del value
        assert seen() is None


def test_map_gives_up_waiting(make: Make, gate: Gate) -> None:
    executor = make(2)
    assert executor.submit(calls.double, 1).result() == 2  # its workers are there
    results = executor.map(calls.stand_if, [(gate, False, 1), (gate, True, 2)], timeout=2.0)
    assert next(results) == 1
    gate.reached()
    with pytest.raises(TimeoutError):
        next(results)
    gate.open()


def test_map_runs_though_nobody_looks(make: Make, tmp_path: Any) -> None:
    with make(2) as executor:
        executor.map(calls.touch, [str(tmp_path / str(i)) for i in range(50)])
    assert len(os.listdir(tmp_path)) == 50


def test_map_sees_lists_as_they_were_at_the_call(make: Make) -> None:
    values = list(range(1000))
    results = make(2).map(calls.double, values)
    values.clear()
    assert list(results) == [2 * i for i in range(1000)]


def test_map_refuses_in_the_standard_words(make: Make) -> None:
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        make(1).map(calls.double, [1], chunksize=0)
    with pytest.raises(TypeError, match="not iterable"):
        make(1).map(calls.double, 3)  # type: ignore[arg-type]


def test_map_with_a_buffer_pulls_no_further() -> None:
    numbers = itertools.count()
    with procoro.Executor(2) as executor:
        results = executor.map(calls.double, numbers, buffersize=4)
        assert next(numbers) == 4, "four were pulled, in this thread"
        assert [next(results) for _ in range(3)] == [0, 2, 4]
        assert next(numbers) == 8
        assert list(executor.map(pow, [2, 3], [3, 2, 9], buffersize=10)) == [8, 9]
        for wrong, error in ((0, ValueError), (-1, ValueError), ("4", TypeError), (2.0, TypeError), (True, TypeError)):
            with pytest.raises(error, match="buffersize must be"):
                executor.map(calls.double, [], buffersize=wrong)  # type: ignore[arg-type]


def test_map_is_lazy() -> None:
    pulled: list[int] = []
    with procoro.Executor(2) as executor:
        results = executor.map(calls.double, (pulled.append(i) or i for i in range(100_000)))  # type: ignore[func-returns-value]
        assert [next(results) for _ in range(3)] == [0, 2, 4]
        assert len(pulled) <= 4096 + 1024
        results.close()  # type: ignore[attr-defined]
    assert len(pulled) < 100_000, "who was closed pulls no more"


# -------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize("number", [0, -1])
def test_there_is_a_worker_at_least(make: Make, number: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        make(max_workers=number)


def test_max_tasks_per_child(make: Make) -> None:
    executor = make(1, max_tasks_per_child=2)
    pids = [executor.submit(os.getpid).result(PATIENCE) for _ in range(6)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 2]


def test_arguments_are_refused_in_the_standard_words(make: Make) -> None:
    with pytest.raises(TypeError):
        make("2")
    with pytest.raises(TypeError, match="max_tasks_per_child must be an integer"):
        make(1, max_tasks_per_child="2")
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        make(1, max_tasks_per_child=0)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        make(1, initializer=5)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_context_is_taken(method: str) -> None:
    with procoro.Executor(1, multiprocessing.get_context(method)) as executor:
        assert executor.submit(calls.double, 2).result(PATIENCE) == 4
    with pytest.raises(TypeError, match="mp_context must be"):
        procoro.Executor(1, "spawn")  # type: ignore[arg-type]


def test_the_initializer_runs_in_every_worker(make: Make) -> None:
    executor = make(2, initializer=calls.set_state, initargs=("set",))
    assert list(executor.map(calls.get_state, range(20))) == ["set"] * 20


def test_a_failing_initializer_breaks_the_executor(make: Make) -> None:
    executor = make(2, initializer=calls.add, initargs=("a", 1))
    with pytest.raises(cf.BrokenExecutor):
        executor.submit(calls.double, 1).result(PATIENCE)

    def refuses() -> bool:
        try:
            executor.submit(calls.double, 1)
        except cf.BrokenExecutor:
            return True
        return False

    wait_until(refuses, "the executor is known to be broken")


# ------------------------------------------------------------------------------------------- the end


def test_no_calls_after_shutdown(make: Make) -> None:
    executor = make(1)
    executor.submit(calls.double, 1).result(PATIENCE)
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(calls.double, 1)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(calls.double, [1])


def test_shutdown_finishes_what_was_handed_in(make: Make) -> None:
    executor = make(2)
    futures = [executor.submit(calls.double, i) for i in range(200)]
    executor.shutdown(wait=False)
    assert [future.result(PATIENCE) for future in futures] == [2 * i for i in range(200)]
    executor.shutdown()


def test_shutdown_can_cancel_what_has_not_begun(gate: Gate) -> None:
    executor = procoro.Executor(1)  # the standard library's loses the running call, where nobody waits (wait=False)
    running = executor.submit(calls.stand, gate, 1)
    gate.reached()
    waiting = [executor.submit(calls.double, i) for i in range(50)]
    executor.shutdown(wait=False, cancel_futures=True)
    wait_until(lambda: sum(future.cancelled() for future in waiting) > 45, "what waits is cancelled")
    gate.open()
    executor.shutdown()
    assert running.result(PATIENCE) == 1
    assert all(future.cancelled() or future.result(0) == 2 * at for at, future in enumerate(waiting))


def test_a_map_whose_inputs_are_cancelled_says_so(gate: Gate) -> None:
    executor = procoro.Executor(1)
    results = executor.map(calls.stand_if, [(gate, True, 1)] + [(gate, False, 2)] * 10_000)
    gate.reached()
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    assert next(results) == 1
    with pytest.raises(cf.CancelledError):
        list(results)
    executor.shutdown()


def test_a_with_ends_when_all_is_done(make: Make) -> None:
    with make(2) as executor:
        futures = [executor.submit(calls.double, i) for i in range(100)]
    assert all(future.done() for future in futures)


def test_ctrl_c_in_a_with_ends_what_runs(gate: Gate) -> None:
    futures: list[cf.Future[int]] = []

    def main() -> None:
        with procoro.Executor(1) as executor:
            futures.append(executor.submit(calls.stand, gate, 1))
            gate.reached()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        main()
    assert isinstance(futures[0].exception(0), PoolTerminated)


@pytest.mark.parametrize("name", ["kill_workers", "terminate_workers"])
def test_workers_can_be_ended(name: str, gate: Gate) -> None:
    executor = procoro.Executor(2)
    futures = [executor.submit(calls.stand, gate, 1) for _ in range(4)]
    gate.reached()
    getattr(executor, name)()
    assert all(isinstance(future.exception(PATIENCE), BrokenProcessPool) for future in futures)
    with pytest.raises(PoolClosed):
        executor.submit(calls.double, 1)


FORGOTTEN = """
    import atexit, time

    def late():
        try:
            executor.submit(abs, -1)
        except (RuntimeError, NameError) as error:
            print(error)

    atexit.register(late)
    from procoro import Executor

    def call(x):
        time.sleep(0.1)
        print("ran", x, flush=True)

    executor = Executor(2)
    futures = [executor.submit(call, i) for i in range(6)]
    results = executor.map(call, range(6, 10))
    {}
"""


@pytest.mark.parametrize("last", ["", "del executor, futures, results", "executor.shutdown(wait=False)"])
def test_a_forgotten_executor_finishes_its_calls(script: Script, last: str) -> None:
    said = script(FORGOTTEN.format(last)).splitlines()
    assert sorted(line for line in said if line.startswith("ran")) == [f"ran {i}" for i in range(10)]


def test_after_the_end_of_the_interpreter_no_calls_are_taken(script: Script) -> None:
    assert "cannot schedule new futures after interpreter shutdown" in script(FORGOTTEN.format(""))


# ----------------------------------------------------------------------------------------------- deaths


def test_a_death_harms_only_its_own_call() -> None:
    with procoro.Executor(2) as executor:
        deadly = executor.submit(calls.kill_self)
        others = [executor.submit(calls.double, i) for i in range(50)]
        error = deadly.exception(PATIENCE)
        assert isinstance(error, WorkerDied) and isinstance(error, BrokenProcessPool)
        assert [future.result(PATIENCE) for future in others] == [2 * i for i in range(50)]


def test_what_cannot_travel_is_refused_at_the_call() -> None:
    with procoro.Executor(1) as executor, pytest.raises(NotPicklable, match="lock"):
        executor.submit(calls.double, threading.Lock())


def test_a_result_does_not_travel() -> None:
    with procoro.Executor(1) as executor:
        result = executor.submit(calls.double, 1)
        with pytest.raises(NotPicklable, match="lives in one process"):
            executor.submit(calls.double, result)
        for probe in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="lives in one process"):
                probe(result)  # type: ignore[operator]


# --------------------------------------------------------------------------------------------- the others


def test_asyncio_runs_calls_in_it() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        with procoro.Executor(2) as executor:
            futures = [loop.run_in_executor(executor, calls.double, i) for i in range(50)]
            wrapped = asyncio.wrap_future(executor.submit(calls.double, 50))
            return await asyncio.gather(*futures, wrapped)

    assert asyncio.run(main()) == [2 * i for i in range(51)]


def test_cancelling_what_asyncio_waits_for_cancels_the_call(gate: Gate) -> None:
    async def main() -> None:
        with procoro.Executor(1) as executor:
            running = executor.submit(calls.stand, gate, 1)
            await asyncio.to_thread(gate.reached)
            future = executor.submit(calls.double, 1)
            waiting = asyncio.wrap_future(future)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            while not future.cancelled():
                await asyncio.sleep(0.001)
            gate.open()
            assert await running == 1

    asyncio.run(main())


@pytest.mark.skipif(find_spec("dask") is None, reason="Dask is not installed")
def test_dask_computes_on_it(script: Script) -> None:
    """In a program of its own: Dask changes how exceptions are pickled, everywhere."""
    said = script("""
        import os
        import dask
        from procoro import Executor
        from tests.promises import calls

        with Executor(2) as executor:
            total = dask.delayed(sum)([dask.delayed(calls.double)(i) for i in range(20)])
            print(total.compute(scheduler=executor))
            with dask.config.set(scheduler=executor):
                print(dask.delayed(os.getpid)().compute() != os.getpid())
    """)
    assert said == "380\nTrue\n"


# --------------------------------------------------------------------------- a Result as a Future of its own


def test_a_result_without_a_pool_is_a_future() -> None:
    result: procoro.Result[int] = procoro.Result()
    assert not result.done() and not result.running() and "Result" in repr(result) and "pending" in repr(result)
    assert result.set_running_or_notify_cancel() and result.running() and not result.cancel()
    result.set_result(5)
    assert result.result() == result.get() == 5 and result.successful()
    with pytest.raises(cf.InvalidStateError):
        result.set_result(6)
    cancelled: procoro.Result[int] = procoro.Result()
    assert cancelled.kill() and cancelled.cancelled() and not cancelled.set_running_or_notify_cancel()

    async def main() -> int:
        later: procoro.Result[int] = procoro.Result()
        asyncio.get_running_loop().call_soon(later.set_result, 7)
        return await later

    assert asyncio.run(main()) == 7


def test_cpythons_own_tests_of_future_pass() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.futures_of_cpython"], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    if "No module named" in run.stderr:
        pytest.skip("this interpreter comes without its tests")
    assert run.returncode == 0, run.stderr


def test_results_of_two_threads_are_the_same_object() -> None:
    with procoro.Executor(1) as executor:
        future = executor.submit(calls.tagged, 1)
        time.sleep(0)
        with cf.ThreadPoolExecutor(4) as threads:
            seen = [look.result() for look in [threads.submit(future.result) for _ in range(16)]]
    assert all(one is seen[0] for one in seen)


def test_an_executor_says_why_it_is_broken() -> None:
    executor = procoro.Executor(1, initializer=calls.add, initargs=("a", 1))
    with pytest.raises(InitializerFailed, match="TypeError"):
        executor.submit(calls.double, 1).result(PATIENCE)
    executor.shutdown()


def test_an_input_that_cannot_travel_fails_at_its_own_place() -> None:
    for buffersize in (1, 2, 10, None):
        with procoro.Executor(1) as executor:
            values = executor.map(calls.double, [1, 2, threading.Lock(), 3], buffersize=buffersize)
            assert [next(values), next(values)] == [2, 4]
            with pytest.raises(NotPicklable):
                next(values)


def test_a_map_with_a_buffer_that_is_left_cancels_what_is_ahead(gate: Gate) -> None:
    with Executor(1) as executor:
        values = executor.map(calls.stand, [gate] * 4, range(4), buffersize=3)
        gate.reached()
        gate.open()
        assert next(values) == 0
        gate.reached()
        values.close()  # type: ignore[attr-defined]
        gate.open()  # the second; nobody stands there behind it
        assert executor.submit(abs, -1).result(20) == 1


def test_a_map_with_a_buffer_keeps_its_time() -> None:
    with Executor(1) as executor:
        values = executor.map(time.sleep, [2.0], timeout=0.05, buffersize=1)
        with pytest.raises(TimeoutError):
            next(values)
        executor.kill_workers()
