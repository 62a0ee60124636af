"""Promise 3: no call is started twice, unless `retries` asks for it; then no more often than asked."""

from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import CallTimeout, WorkerDied, failed_call
from tests.promises import calls
from tests.promises.looks import PATIENCE, errors_in, outcomes


@pytest.fixture
def notes(tmp_path: Path) -> str:
    return str(tmp_path / "notes")


def runs(notes: str) -> int:
    return Path(notes).stat().st_size


@pytest.mark.parametrize(
    "fails, error", [(calls.raise_until, ValueError), (calls.die_until, WorkerDied), (calls.hang_until, CallTimeout)]
)
@pytest.mark.parametrize("retries", [0, 2])
def test_a_call_is_run_again_only_as_often_as_asked(fails: Any, error: Any, retries: int, notes: str) -> None:
    with Pool(2, retries=retries, timeout=0.4) as pool:
        result = pool.submit(fails, notes, 100)
        with pytest.raises(error) as caught:
            result.get(PATIENCE)
        assert runs(notes) == 1 + retries
        assert pool.map(calls.double, range(20)) == [2 * i for i in range(20)]
    assert runs(notes) == 1 + retries
    call = failed_call(caught.value)
    assert call is not None and call.attempt == 1 + retries
    if retries:
        assert "attempt 3" in str(call)


@pytest.mark.parametrize("fails", [calls.raise_until, calls.die_until, calls.hang_until])
def test_a_call_that_succeeds_in_the_end_has_its_value(fails: Any, notes: str) -> None:
    with Pool(2, retries=5, timeout=0.4) as pool:
        assert pool.submit(fails, notes, 3).get(PATIENCE) == 3
        assert runs(notes) == 3


def test_retries_of_a_stream_replace_those_of_the_pool(notes: str) -> None:
    with Pool(1, retries=5) as pool:
        found = outcomes(pool.imap(_raise_until_3, [notes], retries=0))
        assert [type(one) for one in found] == [ValueError] and runs(notes) == 1
        assert outcomes(pool.imap(_raise_until_3, [notes])) == [3]


def _raise_until_3(notes: str) -> int:
    return calls.raise_until(notes, 3)


def test_an_ordered_stream_waits_for_its_retries(tmp_path: Path) -> None:
    inputs = [str(tmp_path / str(i % 5)) if i < 5 else None for i in range(50)]
    with Pool(2, retries=3) as pool:
        found = list(pool.imap(_maybe_raise, inputs))
    assert found == [3] * 5 + [0] * 45


def _maybe_raise(notes: str | None) -> int:
    return 0 if notes is None else calls.raise_until(notes, 3)


def test_neighbours_of_a_death_are_run_once(tmp_path: Path) -> None:
    """Calls of one packet: those before the culprit, the culprit, those behind."""
    marks = tmp_path / "marks"
    marks.write_bytes(bytes(1000))
    with Pool(2) as pool:
        found = outcomes(pool.imap(_Mortal(str(marks)), range(1000), chunksize=50))
    failed = errors_in(found)
    assert sorted(failed) == list(range(33, 1000, 100))
    assert all(isinstance(error, WorkerDied) for error in failed.values())
    assert all(value == 7 * at + 3 for at, value in enumerate(found) if at not in failed)
    assert marks.read_bytes() == bytes([1]) * 1000


class _Mortal(calls.Marked):
    def __init__(self, path: str) -> None:
        super().__init__(path, 7)

    def __call__(self, x: int) -> int:
        value = super().__call__(x)
        if x % 100 == 33:
            calls.kill_self()
        return value
