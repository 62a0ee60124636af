"""The initializer: what it sets is seen; how it fails is told, in bounded time."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from procoro import Pool
from procoro.errors import InitializerFailed, NotPicklable, PoolTerminated, WorkersKeepDying, failed_call
from tests.gate import Gate
from tests.promises import calls, surroundings
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE, all_idle


def test_what_it_sets_is_seen_by_every_worker_and_its_successor(gate: Gate) -> None:
    with Pool(2, calls.set_state, ("value",)) as pool:
        for pid in all_idle(pool, gate, 2):
            assert pool.map(calls.get_state, range(20)) == ["value"] * 20
            os.kill(pid, signal.SIGKILL)
        assert pool.map(calls.get_state, range(20)) == ["value"] * 20


@pytest.mark.parametrize("given", [iter(["x"]), ["x"], ("x",)])
def test_initargs_may_be_any_iterable(given: object) -> None:
    with Pool(1, calls.set_state, given) as pool:  # type: ignore[arg-type]
        assert pool.apply(calls.get_state) == "x"


def test_one_that_raises_ends_every_call_by_name() -> None:
    with Pool(2, calls.fail_to_start, ("no license",)) as pool:
        results = [pool.submit(calls.double, i) for i in range(5)]
        stream = pool.imap(calls.double, iter(range(100)))
        mapped = pool.map_async(calls.double, range(100))
        for result in results:
            with pytest.raises(InitializerFailed, match="no license") as caught:
                result.get(PATIENCE)
            assert isinstance(caught.value.__cause__, RuntimeError)
        with pytest.raises(InitializerFailed):
            mapped.get(PATIENCE)
        with pytest.raises(InitializerFailed):
            stream.next(PATIENCE)
        with pytest.raises(Exception, match=r"not running|initializer|closed") as refused:
            pool.submit(calls.double, 1).get(PATIENCE)
        assert isinstance(refused.value, (ValueError, RuntimeError))


@pytest.mark.parametrize(
    "die, words", [(calls.exit_3, "exit code 3"), (calls.kill_self, "SIGKILL"), (calls.leave, "SystemExit: 5")]
)
def test_one_that_ends_the_worker_is_told(die: object, words: str) -> None:
    with Pool(2, die) as pool:  # type: ignore[arg-type]
        result = pool.submit(calls.double, 1)
        with pytest.raises((WorkersKeepDying, InitializerFailed), match=words):
            result.get(20)


def test_one_that_fails_once_costs_nothing(tmp_path: Path) -> None:
    with Pool(1, calls.fail_once, (str(tmp_path / "notes"),)) as pool:
        assert pool.map(calls.double, range(10)) == [2 * i for i in range(10)]


def test_one_that_hangs_can_be_terminated(gate: Gate) -> None:
    with Pool(2, calls.stand, (gate,)) as pool:
        result = pool.submit(calls.double, 1)
        gate.reached(), gate.reached()
        pool.terminate()
        assert isinstance(result.exception(0), PoolTerminated)


def test_one_that_hangs_in_c_can_be_terminated(gate: Gate) -> None:
    with Pool(1, calls.spin, (gate,)) as pool:
        gate.reached()
        gate.open()
        pool.terminate()


def test_one_that_is_slow_is_waited_for(gate: Gate) -> None:
    with Pool(2, calls.stand, (gate,), timeout=0.2) as pool:
        results = pool.map_async(calls.double, range(10))
        gate.reached(), gate.reached()
        assert not results.ready()
        gate.close()
        assert results.get(PATIENCE) == [2 * i for i in range(10)]


def test_a_hanging_one_lets_a_closed_pool_end(gate: Gate) -> None:
    pool = Pool(1, calls.stand, (gate,))
    gate.reached()
    pool.close()
    pool.join()


def test_one_that_does_not_pickle_is_refused() -> None:
    lock = threading.Lock()
    with pytest.raises(NotPicklable, match="lock"):
        Pool(1, lambda: lock.locked())
    with pytest.raises(NotPicklable, match=r"initargs\[0\].*lock"):
        Pool(1, calls.set_state, (lock,))
    with pytest.raises(TypeError, match="initializer must be a callable"):
        Pool(1, 3)  # type: ignore[arg-type]


def test_one_with_big_arguments() -> None:
    with Pool(2, calls.set_state, (bytes(3 << 20),)) as pool:
        assert len(pool.apply(calls.get_state)) == 3 << 20


def test_one_that_sets_a_global_of_main(script: Script) -> None:
    assert (
        script(
            """
            from procoro import Pool

            connection = None

            def connect(name):
                global connection
                connection = f"open {name}"

            def use(x):
                return connection, x

            with Pool(2, connect, ("db",)) as pool:
                print(set(pool.map(use, range(10))) == {("open db", x) for x in range(10)})
                print(pool.submit(use, 1).get(), pool.submit(lambda: connection).get(), connection)
            """
        )
        == "True\n('open db', 1) open db None\n"
    )


def test_one_that_hangs_is_held_to_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procoro.pool.INITIALIZING", 0.5)  # seconds granted, whatever the timeout
    with Pool(2, initializer=time.sleep, initargs=(1000,), timeout=0.5) as pool:
        result = pool.submit(calls.double, 1)
        with pytest.raises(InitializerFailed, match="did not return in time"):
            result.get(PATIENCE)


def test_the_end_of_a_stream_is_the_error_of_no_call() -> None:
    with Pool(2, calls.fail_to_start, ("no license",)) as pool:
        stream = pool.imap(calls.double, range(3))
        numbers = []
        while True:
            try:
                next(stream)
            except StopIteration:
                break
            except InitializerFailed as error:
                call = failed_call(error)
                numbers.append(None if call is None else call.number)
    assert numbers in ([0, 1, 2], [0, 1, 2, None], [None])


async def aset(value: str) -> None:
    surroundings.variable.set(value)


def show() -> object:
    return surroundings.variable.get()


async def ashow() -> object:
    return surroundings.variable.get()


@pytest.mark.parametrize("model", [None, "serial", "threads", "asyncio"])
def test_what_an_async_initializer_sets_in_its_context_is_seen_by_all_calls(model: str | None) -> None:
    with Pool(1, aset, ("ours",), model=model) as pool:
        assert [pool.submit(show).get(), pool.submit(show).get()] == ["ours", "ours"]
        if model in (None, "asyncio"):
            assert pool.submit(ashow).get() == "ours"


def fails_at_length() -> None:
    raise LookupError("told to " * 100_000)


def test_an_initializer_that_fails_with_many_words_is_told() -> None:
    """More than a message holds: then the first of them."""
    with Pool(1, fails_at_length) as pool:
        error = pool.submit(abs, 1).exception(20)
    assert "LookupError('told to told to" in f"{error} {error.__cause__!r}"
