"""Callbacks run in the caller's process, and one that raises is logged and harms nothing."""

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from procoro import Pool, Result
from procoro.errors import WorkerDied
from tests.promises import calls
from tests.promises.looks import PATIENCE, wait_until


def test_callbacks_get_the_value_or_the_error_here() -> None:
    said: list[tuple[str, int, Any]] = []
    with Pool(2) as pool:
        for x in (1, 3):
            pool.apply_async(
                calls.raise_if_3,
                (x,),
                callback=lambda value: said.append(("value", os.getpid(), value)),
                error_callback=lambda error: said.append(("error", os.getpid(), str(error))),
            )
        wait_until(lambda: len(said) == 2, "both were called")
    assert sorted(said) == [("error", os.getpid(), "no 3"), ("value", os.getpid(), 2)]


def test_a_death_calls_the_error_callback() -> None:
    said: list[BaseException] = []
    with Pool(1) as pool:
        pool.apply_async(calls.exit_3, error_callback=said.append)
        wait_until(lambda: said, "it was called")
    assert isinstance(said[0], WorkerDied)


def test_callbacks_of_maps_get_the_whole_list() -> None:
    said: list[Any] = []
    with Pool(2) as pool:
        pool.map_async(calls.double, range(100), callback=said.append).wait(PATIENCE)
        pool.starmap_async(calls.add, [(1, 2)] * 3, callback=said.append).wait(PATIENCE)
        pool.map_async(calls.raise_if_3, range(5), callback=said.append, error_callback=lambda e: said.append(str(e)))
        pool.map_async(calls.double, [], callback=said.append)
        wait_until(lambda: len(said) == 4, "all were called")
    assert said == [[2 * i for i in range(100)], [3, 3, 3], "no 3", []] or said[3] == "no 3"


def test_who_has_waited_finds_what_a_callback_has_done() -> None:
    """As in `multiprocessing`: `ready()`, `wait()` and `get()` come after it."""
    done: list[Any] = []

    def slowly(outcome: Any) -> None:
        time.sleep(0.02)
        done.append(outcome)

    with Pool(1) as pool:
        for wait in (Result.get, Result.wait, Result.exception, lambda call: wait_until(call.ready, "it is ready")):
            wait(pool.apply_async(calls.double, (1,), callback=slowly))
            assert done.pop() == 2
        with pytest.raises(ValueError, match="no 3"):
            pool.apply_async(calls.raise_if_3, (3,), error_callback=slowly).get(PATIENCE)
        assert repr(done.pop()) == "ValueError('no 3')"
        pool.map_async(calls.double, [1, 2], callback=slowly).wait(PATIENCE)
        assert done.pop() == [2, 4] and not done


@pytest.mark.parametrize("wait", [concurrent.futures.wait, lambda calls: list(concurrent.futures.as_completed(calls))])
def test_a_callback_that_waits_for_its_own_call_is_refused(wait: Callable[..., Any]) -> None:
    """It would wait for itself, and all pools with it."""
    calls_made: list[Any] = []
    said: list[str] = []

    def waits(value: int) -> None:
        wait_until(lambda: calls_made, "it is known")
        try:
            wait(calls_made)
        except RuntimeError as error:
            said.append(str(error))

    with Pool(1) as pool:
        calls_made.append(pool.apply_async(calls.double, (1,), callback=waits))
        assert calls_made[0].get(PATIENCE) == 2
        assert pool.apply(calls.double, (2,)) == 4
    assert len(said) == 1 and said[0].startswith("a callback waits for a call")


def test_a_callback_that_raises_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    said: list[int] = []

    def bad(value: int) -> None:
        raise LookupError(f"callback {value}")

    with Pool(2) as pool:
        results = [pool.apply_async(calls.double, (i,), callback=bad if i % 2 else said.append) for i in range(20)]
        assert [result.get(PATIENCE) for result in results] == [2 * i for i in range(20)]
        assert pool.map_async(calls.double, range(3), callback=bad).get(PATIENCE) == [0, 2, 4]
        pool.submit(calls.double, 1).add_done_callback(bad)  # type: ignore[arg-type]
        wait_until(lambda: len(said) == 10, "all were called")
        assert pool.map(calls.double, range(5)) == [0, 2, 4, 6, 8]
        wait_until(lambda: caplog.text.count("LookupError: callback") >= 11, "all were logged")
    assert sorted(said) == [4 * i for i in range(10)]


def test_a_callback_may_submit(tmp_path: Any) -> None:
    said: list[int] = []
    with Pool(1) as pool:
        pool.apply_async(
            calls.double, (1,), callback=lambda value: pool.apply_async(calls.double, (value,), callback=said.append)
        )
        wait_until(lambda: said, "the second was called")
    assert said == [4]


def test_a_callback_that_waits_is_refused_in_words() -> None:
    said: list[Any] = []

    def waits(value: int) -> None:
        try:
            pool.apply(calls.double, (1,))
        except RuntimeError as error:
            said.append(str(error))

    with Pool(1) as pool:
        pool.apply_async(calls.double, (1,), callback=waits)
        wait_until(lambda: said, "it was called")
        assert pool.apply(calls.double, (1,)) == 2
    assert "callback" in said[0]


def test_callbacks_that_close_and_terminate() -> None:
    for end in ("close", "terminate"):
        with Pool(1) as pool:
            done = threading.Event()
            pool.apply_async(calls.double, (1,), callback=lambda _: (getattr(pool, end)(), done.set()))  # noqa: B023
            assert done.wait(PATIENCE)
            pool.join()


def test_done_callbacks_of_a_result_that_is_done_are_called_at_once() -> None:
    said: list[Any] = []
    with Pool(1) as pool:
        result = pool.submit(calls.double, 1)
        result.get(PATIENCE)
        result.add_done_callback(said.append)
    assert said == [result]
