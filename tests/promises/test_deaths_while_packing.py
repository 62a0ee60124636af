"""Promises 1, 2 and 4, where a call's own code is run by pickle: as its input arrives, as its outcome leaves."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import CallTimeout, NotPicklable, RemoteError, WorkerDied
from tests.promises import calls, misbehaviour
from tests.promises.looks import PATIENCE, errors_in, outcomes

COUNT, CULPRIT = 30, 13
Trap = Callable[[], Any]


def rebuilt(trap: Trap) -> tuple[Callable[[Any], Any], Any]:
    return misbehaviour.same, misbehaviour.SpringsWhenRebuilt(trap)


def returned(trap: Trap) -> tuple[Callable[[Any], Any], Any]:
    return misbehaviour.give, trap


def raised(trap: Trap) -> tuple[Callable[[Any], Any], Any]:
    return misbehaviour.fail, trap


PLACES = [rebuilt, returned, raised]
DEATHS = [(calls.kill_self, -signal.SIGKILL), (calls.exit_3, 3), (calls.segfault, -signal.SIGSEGV)]


def spring(
    pool: Pool, place: Callable[[Trap], tuple[Callable[[Any], Any], Any]], trap: Trap, chunksize: int | None = None
) -> Any:
    """The error of the one call that springs the trap; all around it have their values."""
    call, culprit = place(trap)
    inputs = [*range(CULPRIT), culprit, *range(CULPRIT + 1, COUNT)]
    stream = pool.imap(call, inputs, chunksize)
    behind = [pool.submit(calls.double, i) for i in range(5)]
    found = outcomes(stream)
    assert [one.get(PATIENCE) for one in behind] == [2 * i for i in range(5)]
    errors = errors_in(found)
    assert list(errors) == [CULPRIT] and len(found) == COUNT, errors
    assert [one for at, one in enumerate(found) if at != CULPRIT] == [i for i in range(COUNT) if i != CULPRIT]
    return errors[CULPRIT]


@pytest.mark.parametrize("trap, exitcode", DEATHS)
@pytest.mark.parametrize("place", PLACES)
def test_a_death_in_pickle_is_charged_to_its_call(place: Any, trap: Trap, exitcode: int) -> None:
    with Pool(2) as pool:
        for chunksize in (None, COUNT):
            error = spring(pool, place, trap, chunksize)
            assert isinstance(error, WorkerDied) and error.exitcode == exitcode
            assert f"[call {CULPRIT}]" in str(error)


@pytest.mark.parametrize("place", PLACES)
def test_a_hang_in_pickle_is_ended_by_the_timeout(place: Any) -> None:
    call, culprit = place(calls.hang)
    with Pool(1) as pool:
        hangs, others = pool.imap(call, [culprit], timeout=0.3), pool.map_async(call, range(COUNT))
        with pytest.raises(CallTimeout):
            hangs.next(PATIENCE)
        assert others.get(PATIENCE) == list(range(COUNT))


@pytest.mark.parametrize("trap", [calls.leave, calls.raise_interrupt])
def test_an_exit_in_pickle_costs_no_worker(trap: Trap) -> None:
    with Pool(1) as pool:
        pid = pool.apply(calls.pid)
        error = pool.submit(misbehaviour.same, misbehaviour.SpringsWhenRebuilt(trap)).exception(PATIENCE)
        assert isinstance(error, (SystemExit, KeyboardInterrupt))
        error = spring(pool, returned, trap)
        assert isinstance(error, NotPicklable)
        assert "result: SpringsWhenPacked" in str(error)
        error = spring(pool, raised, trap)
        assert isinstance(error, misbehaviour.Springs) or "misbehaviour.Springs" in str(error)
        error = pool.submit(misbehaviour.fail_to_show, trap).exception(PATIENCE)
        assert isinstance(error, (RemoteError, misbehaviour.SpringsWhenShown))
        assert pool.apply(calls.pid) == pid


@pytest.mark.parametrize("trap", [calls.kill_self, calls.exit_3])
def test_a_function_that_ends_whoever_loads_it_harms_no_other(trap: Trap) -> None:
    """It is given up after a while; which of its calls was the first, nobody knows."""
    with Pool(2) as pool:
        deadly = pool.submit(misbehaviour.SpringsWhenRebuilt(trap), 1)
        others = pool.map_async(calls.double, range(COUNT))
        assert isinstance(deadly.exception(PATIENCE), WorkerDied)
        assert others.get(PATIENCE) == [2 * i for i in range(COUNT)]


def test_a_function_that_hangs_whoever_loads_it_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procoro.scheduler.scheduler.LOADING", 0.2)  # seconds granted to load a function
    with Pool(1) as pool:
        hangs = pool.imap(misbehaviour.SpringsWhenRebuilt(calls.hang), [1], timeout=0.2)
        others = pool.map_async(calls.double, range(COUNT))
        with pytest.raises(CallTimeout):
            hangs.next(PATIENCE)
        assert others.get(PATIENCE) == [2 * i for i in range(COUNT)]
