"""Promise 11, and what cannot travel: each is an error of its own call, and says what and where."""

import pickle
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import NotPicklable, RemoteError, ResultNotUnpicklable, WorkerDied, failed_call
from tests.promises import calls
from tests.promises.looks import PATIENCE, errors_in, outcomes


@pytest.fixture
def pool() -> Any:
    with Pool(2) as pool:
        yield pool


@pytest.fixture(autouse=True)
def others_go_on(pool: Pool) -> Any:
    """Before and after each of these errors, calls have their values."""
    before = pool.map_async(calls.double, range(200))
    yield
    assert before.get(PATIENCE) == pool.map(calls.double, range(200)) == [2 * i for i in range(200)]


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_an_exception_is_itself_with_the_workers_traceback(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no 13") as caught:
        pool.apply(calls.raise_if_3, (13,))
    assert (type(caught.value), caught.value.args, str(caught.value)) == (ValueError, ("no 13",), "no 13")
    words = shown(caught.value)
    assert "raised in worker" in words and "raise_if_3(13) [call 0]" in words
    assert 'raise ValueError(f"no {x}")' in words, "the line of the worker's source"
    call = failed_call(caught.value)
    assert call is not None
    assert (call.function, call.input, call.number, call.attempt) == ("raise_if_3", "13", 0, 1)
    assert "ValueError: no 13" in call.traceback


def test_its_cause_comes_with_it(pool: Pool) -> None:
    with pytest.raises(LookupError, match="outer") as caught:
        pool.apply(calls.raise_from, ("inner",))
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__cause__.args == ("inner",)


@pytest.mark.parametrize(
    "call, words",
    [
        (calls.raise_held, r"tests\.promises\.calls\.Held: held"),
        (calls.raise_trap, r"tests\.promises\.calls\.Trap: trap"),
    ],
)
def test_an_exception_that_cannot_be_rebuilt(pool: Pool, call: Callable[[], None], words: str) -> None:
    with pytest.raises(RemoteError, match=words) as caught:
        pool.apply(call)
    assert f"in {call.__name__}" in shown(caught.value), "the worker's traceback"


def test_an_exception_that_has_no_words(pool: Pool) -> None:
    with pytest.raises(calls.Mute):
        pool.apply(calls.raise_mute)


def test_a_result_that_does_not_pickle(pool: Pool) -> None:
    found = outcomes(pool.imap(calls.lock_if_3, range(50)))
    failed = errors_in(found)
    assert sorted(failed) == [3, 13, 23, 33, 43]
    for error in failed.values():
        assert isinstance(error, NotPicklable), repr(error)
        assert "result" in str(error) and "['deep'][1]" in str(error) and "lock" in str(error)
    assert [value for at, value in enumerate(found) if at not in failed] == [2 * i for i in range(50) if i % 10 != 3]


def test_a_generator_as_result_is_refused(pool: Pool) -> None:
    with pytest.raises(pickle.PicklingError, match="generator"):
        pool.apply(calls.generator)


def test_a_result_that_does_not_unpickle(pool: Pool) -> None:
    for stream in (pool.imap(calls.bomb_if_3, range(50)), pool.imap(calls.bomb_if_3, range(50), chunksize=50)):
        found = outcomes(stream)
        failed = errors_in(found)
        assert sorted(failed) == [3, 13, 23, 33, 43]
        for at, error in failed.items():
            assert isinstance(error, ResultNotUnpicklable) and isinstance(error, pickle.UnpicklingError)
            assert "bomb" in str(error) and f"call {at}" in str(error)
            assert isinstance(error.__cause__, RuntimeError)
        assert [x for at, x in enumerate(found) if at not in failed] == [2 * i for i in range(50) if i % 10 != 3]


def test_a_result_that_does_not_unpickle_in_a_map(pool: Pool) -> None:
    with pytest.raises(ResultNotUnpicklable, match=r"bomb_if_3\(.*\) \[call 3\]"):
        pool.map(calls.bomb_if_3, range(50))
    with pytest.raises(ResultNotUnpicklable, match="bomb"):
        pool.submit(calls.Bomb).get(PATIENCE)


@pytest.mark.parametrize(
    "args, kwargs, path",
    [
        ((1, {"a": [0, threading.Lock()]}), {}, "args[1]['a'][1]"),
        ((1,), {"c": (threading.Lock(),)}, "kwargs['c'][0]"),
    ],
)
def test_an_argument_that_does_not_pickle(pool: Pool, args: Any, kwargs: Any, path: str) -> None:
    for attempt in (lambda: pool.submit(calls.add, *args, **kwargs), lambda: pool.apply(calls.add, args, kwargs)):
        with pytest.raises(NotPicklable) as caught:
            attempt()
        assert path in str(caught.value) and "lock" in str(caught.value)
        assert isinstance(caught.value, pickle.PicklingError)


def test_an_input_that_does_not_pickle(pool: Pool) -> None:
    inputs = [0, 1, {"a": [threading.Lock()]}, 3]
    for values in (inputs, iter(inputs)):
        found = outcomes(pool.imap(calls.pid, values))
        assert list(errors_in(found)) == [2] and len(found) == 4
        assert isinstance(found[2], NotPicklable)
        assert "['a'][0]" in str(found[2]) and "lock" in str(found[2])
    for call in (pool.map, lambda f, x: pool.starmap(f, [(one,) for one in x])):
        with pytest.raises(NotPicklable, match=r"\['a'\]\[0\].*lock"):
            call(calls.pid, inputs)


def test_an_argument_that_does_not_unpickle(pool: Pool) -> None:
    with pytest.raises(RuntimeError, match="bomb"):
        pool.apply(calls.pid, (calls.Bomb(),))
    for values in ([0, calls.Bomb(), 2], iter([0, calls.Bomb(), 2])):
        found = outcomes(pool.imap(calls.pid, values))
        assert len(found) == 3 and list(errors_in(found)) == [1]
        assert isinstance(found[1], RuntimeError)
        assert "the input could not be unpickled in the worker: the function was not called" in found[1].__notes__


def test_an_argument_that_ends_the_worker_when_unpickled(pool: Pool) -> None:
    found = outcomes(pool.imap(calls.pid, [0, calls.ExitBomb(), 2, 3]))
    assert len(found) == 4 and list(errors_in(found)) == [1]
    assert isinstance(found[1], WorkerDied) and found[1].exitcode == 6


def test_a_closure_that_does_not_pickle(pool: Pool) -> None:
    lock = threading.Lock()
    with pytest.raises(NotPicklable, match="lock"):
        pool.submit(lambda: lock.locked())
    with pytest.raises(NotPicklable, match="lock"):
        pool.map(lambda x: lock.locked(), [1, 2])


def test_a_function_that_does_not_unpickle_fails_its_calls(pool: Pool) -> None:
    class Function:
        def __reduce__(self) -> Any:
            return calls._explode, ("no function",)

        def __call__(self, x: int) -> int:
            return x

    found = outcomes(pool.imap(Function(), range(5)))
    assert len(found) == 5
    assert all(isinstance(error, RuntimeError) and "no function" in str(error) for error in found)
    assert all("the function could not be unpickled in the worker: it was not called" in one.__notes__ for one in found)


@pytest.mark.parametrize(
    "call",
    [
        lambda pool: pool.submit(3),
        lambda pool: pool.map(None, [1]),
        lambda pool: pool.imap(abs, 5),
        lambda pool: pool.map(abs, 5),
        lambda pool: pool.imap(abs, [1], chunksize="2"),
        lambda pool: pool.map(abs, [1], chunksize=0),
        lambda pool: pool.imap(abs, [1], retries=-1),
        lambda pool: pool.imap(abs, [1], timeout=0),
        lambda pool: pool.apply_async(abs, (1,), callback=3),
        lambda pool: pool.imap(abs, [1], nonsense=1),
        lambda pool: pool.starmap(abs, [1]),
    ],
)
def test_bad_arguments_are_refused_at_the_call(pool: Pool, call: Callable[[Pool], object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        call(pool)


@pytest.mark.parametrize("processes", [0, -1, 1.5, "2", True])
def test_a_bad_number_of_processes_is_refused(processes: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"(?i)number of processes|processes must"):
        Pool(processes)
