"""procoro as joblib's backend, by itself and below scikit-learn."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

import procoro.joblib
from procoro import Result
from procoro.errors import CallTimeout, WorkerDied
from tests.gate import Gate
from tests.promises import calls
from tests.promises.conftest import Script
from tests.promises.looks import gone, wait_until

procoro.joblib.register_procoro()


@pytest.fixture(autouse=True)
def _backend() -> Iterator[None]:
    with parallel_config(backend="procoro", n_jobs=2):
        yield
    kept, procoro.joblib._kept = procoro.joblib._kept, None
    if kept is not None:
        kept[1].kill_workers()


def test_calls_run_in_workers() -> None:
    assert Parallel()(delayed(calls.double)(i) for i in range(500)) == [2 * i for i in range(500)]
    pids = set(Parallel(batch_size=1)(delayed(calls.pid)(i) for i in range(50)))
    assert os.getpid() not in pids and 1 <= len(pids) <= 2


def test_lambdas_and_generators() -> None:
    offset = 5
    assert list(Parallel(return_as="generator")(delayed(lambda x: x + offset)(i) for i in range(50))) == [
        i + 5 for i in range(50)
    ]
    unordered = Parallel(return_as="generator_unordered")(delayed(calls.double)(i) for i in range(50))
    assert sorted(unordered) == [2 * i for i in range(50)]


def test_workers_are_kept_from_one_call_to_the_next() -> None:
    first, second = (set(Parallel(batch_size=1)(delayed(calls.pid)(i) for i in range(50))) for _ in range(2))
    assert len(first | second) <= 2


def test_large_arrays_arrive() -> None:
    array = np.arange(1_000_000, dtype=float).reshape(1000, 1000)
    sums = Parallel()(delayed(np.sum)(array[i::4]) for i in range(4))
    assert sum(sums) == array.sum()
    back = Parallel()(delayed(np.negative)(array) for _ in range(2))
    assert all(np.array_equal(one, -array) for one in back)


def test_an_exception_ends_the_others(gate: Gate, tmp_path: Path) -> None:
    pids = []
    with Gate(tmp_path / "until the other runs") as until:

        def let_fail() -> None:
            pids.append(gate.reached())
            until.open()

        watcher = threading.Thread(target=let_fail)
        watcher.start()
        with pytest.raises(ZeroDivisionError):
            Parallel(batch_size=1)(delayed(f)(x) for f, x in [(calls.stand, gate), (_fails, until)])
        watcher.join()
    assert Parallel()(delayed(calls.double)(i) for i in range(3)) == [0, 2, 4], "and it goes on with new workers"
    wait_until(lambda: gone(pids[0]), "the other call was ended")


def _fails(gate: Gate) -> float:
    gate.pass_through()
    return 1 / 0


def test_the_others_are_ended_without_waiting_for_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Between two waits, a second Ctrl-C would leave the others alive."""

    def asks(*_: object) -> bool:
        raise AssertionError("it waits for an answer")

    monkeypatch.setattr("procoro.conductor.conductor.Conductor.ask", asks)
    with Gate(tmp_path / "open") as is_open:
        is_open.open()
        with pytest.raises(ZeroDivisionError):
            Parallel(batch_size=1)(delayed(_fails)(is_open) for _ in range(10))


def test_a_call_that_ends_while_the_interpreter_goes_down_complains_not() -> None:
    dispatcher = ThreadPoolExecutor(1)
    dispatcher.shutdown()
    procoro.joblib._dispatch(dispatcher, print, Result())


def test_a_death_is_an_error_and_not_a_hang() -> None:
    with pytest.raises(WorkerDied, match="SIGKILL"):
        Parallel(batch_size=1)(delayed(f)() for f in [calls.pid, calls.kill_self, calls.pid])
    assert len(Parallel()(delayed(calls.pid)() for _ in range(3))) == 3


def test_what_an_executor_takes_can_be_told(gate: Gate) -> None:
    with parallel_config(backend="procoro", n_jobs=2, timeout=0.2), pytest.raises(CallTimeout):
        Parallel(batch_size=1)(delayed(calls.stand)(gate) for _ in range(2))


def test_workers_use_their_share_of_the_cores() -> None:
    with parallel_config(backend="procoro", n_jobs=2, inner_max_num_threads=1):
        assert set(Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(4))) == {"1"}


def test_they_are_told_so_before_numpy_is_imported(script: Script) -> None:
    """It looks when it is, and never again."""
    said = script(
        """
        import numpy
        from joblib import Parallel, delayed, parallel_config
        from procoro.joblib import register_procoro
        register_procoro()

        def threads():
            import numpy, threadpoolctl
            return {one["num_threads"] for one in threadpoolctl.threadpool_info() if "numpy" in one["filepath"]}

        with parallel_config(backend="procoro", n_jobs=2, inner_max_num_threads=1):
            print(Parallel()(delayed(threads)() for _ in range(4)))
        """
    )
    assert said == f"{[{1}] * 4}\n"


@pytest.mark.parametrize("n_jobs", [1, None])
def test_one_job_runs_in_the_caller(n_jobs: int | None) -> None:
    with parallel_config(backend="procoro", n_jobs=n_jobs):
        assert Parallel()(delayed(calls.pid)() for _ in range(2)) == [os.getpid()] * 2


def test_numbers_of_jobs() -> None:
    backend = procoro.joblib.ProcoroBackend()
    assert backend.effective_n_jobs(3) == 3
    assert backend.effective_n_jobs(-1) >= backend.effective_n_jobs(-2) >= 1
    with pytest.raises(ValueError, match="n_jobs == 0"):
        backend.effective_n_jobs(0)


def test_the_users_inputs_are_pulled_outside_of_procoros_thread() -> None:
    seen = set()

    def inputs() -> Iterator[int]:
        for i in range(100):
            seen.add(threading.current_thread().name)
            yield i

    Parallel(batch_size=1, pre_dispatch=2)(delayed(calls.double)(i) for i in inputs())
    assert "procoro" not in seen and len(seen) > 1


def test_nested_parallel_calls() -> None:
    assert Parallel()(delayed(nested)(i) for i in range(4)) == [[0, i, 2 * i] for i in range(4)]


def nested(i: int) -> list[int]:
    return Parallel(n_jobs=2)(delayed(lambda k: i * k)(k) for k in range(3))  # type: ignore[no-any-return]


def test_scikit_learn_searches_on_it() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV

    x, y = datasets.make_classification(200, 10, random_state=0)

    def search(backend: str) -> list[float]:
        with parallel_config(backend=backend, n_jobs=2):
            found = GridSearchCV(RandomForestClassifier(5, random_state=0), {"max_depth": [2, 4]}, cv=2).fit(x, y)
        return list(found.cv_results_["mean_test_score"])

    assert search("procoro") == search("sequential")


@pytest.mark.parametrize("other", [2, 3])
def test_runs_that_overlap_harm_each_other_not(other: int) -> None:
    """`parallel_config` has one backend for both."""
    first = Parallel(n_jobs=2, return_as="generator")(delayed(calls.double)(i) for i in range(200))
    second = Parallel(n_jobs=other, return_as="generator")(delayed(calls.double)(i) for i in range(200))
    assert list(zip(first, second, strict=True)) == [(2 * i, 2 * i) for i in range(200)]


def test_runs_in_threads_with_workers_of_their_own_go_on() -> None:
    def run(n_jobs: int) -> list[int]:
        runs = (
            Parallel(n_jobs=n_jobs, backend="procoro")(delayed(calls.double)(i) for i in range(100)) for _ in range(3)
        )
        return [value for values in runs for value in values]

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(run, [2, 3, 2, 3])) == [[2 * i for i in range(100)] * 3] * 4


def test_a_failure_ends_no_other_run(gate: Gate) -> None:
    """Which has the same workers."""
    with ThreadPoolExecutor(1) as threads:
        innocent = threads.submit(lambda: Parallel(n_jobs=2, backend="procoro")([delayed(calls.stand)(gate, 1)]))
        gate.reached()
        with pytest.raises(ValueError, match="no 3"):
            Parallel(n_jobs=2, backend="procoro")(delayed(calls.raise_if_3)(i) for i in range(5))
        gate.open()
        assert innocent.result(60) == [1]


def test_what_is_asked_for_otherwise_has_workers_of_its_own() -> None:
    """Workers are kept while all is alike."""
    assert Parallel()(delayed(calls.double)(i) for i in range(2)) == [0, 2]
    first = procoro.joblib._kept
    with parallel_config(backend="procoro", n_jobs=3):
        assert Parallel()(delayed(calls.double)(i) for i in range(2)) == [0, 2]
    second = procoro.joblib._kept
    assert first is not None and second is not None
    try:
        assert (first[1]._max_workers, second[1]._max_workers) == (2, 3)
    finally:
        first[1].kill_workers()


def test_workers_that_were_ended_are_replaced() -> None:
    assert Parallel()(delayed(calls.double)(i) for i in range(2)) == [0, 2]
    kept = procoro.joblib._kept
    assert kept is not None
    kept[1].kill_workers()
    assert Parallel()(delayed(calls.double)(i) for i in range(2)) == [0, 2]
