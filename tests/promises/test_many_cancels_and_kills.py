"""Thousands of cancels and kills: each ends its own call, by name, and no other; and the pool works on."""

from collections import Counter
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import CallKilled, WorkerDied, failed_call
from procoro.results.result import Result
from tests.gate import Gate
from tests.promises import calls
from tests.promises.looks import PATIENCE, outcomes, wait_until

MANY = 10_000


class Marks:
    """A file with a byte for each call: how often it was begun."""

    def __init__(self, folder: Path, size: int) -> None:
        self.path = folder / "marks"
        self.path.write_bytes(bytes(size))

    def read(self) -> bytes:
        return self.path.read_bytes()


@pytest.mark.parametrize("step", [1, 2, -1])
def test_10_000_cancels_of_waiting_calls(gate: Gate, tmp_path: Path, step: int) -> None:
    """All of them, every second one, and from the last to the first."""
    marks = Marks(tmp_path, MANY)
    with Pool(1) as pool:
        running = pool.submit(calls.stand, gate, "value")
        pid = gate.reached()
        waiting: list[Result[int]] = [pool.submit(calls.Marked(str(marks.path), 3), i) for i in range(MANY)]
        cancelled = range(MANY)[::step]
        assert all(waiting[i].cancel() for i in cancelled)
        assert not running.done()
        gate.open()
        assert running.get(PATIENCE) == "value"
        assert pool.submit(calls.pid).get(PATIENCE) == pid
        for i, result in enumerate(waiting):
            if i in cancelled:
                assert result.cancelled()
                with pytest.raises(CancelledError):
                    result.get(0)
            else:
                assert result.get(PATIENCE) == 3 * i + 3
    assert [i for i, times in enumerate(marks.read()) if not times] == sorted(cancelled)
    assert max(marks.read()) <= 1


def test_cancels_between_calls_that_end(tmp_path: Path) -> None:
    """Each races with calls that begin and end all the time: what could be cancelled never ran, the rest ran once."""
    marks = Marks(tmp_path, 2 * MANY)
    with Pool(2) as pool:
        results = [pool.submit(calls.MarkedNap(str(marks.path), 3), i) for i in range(2 * MANY)]
        cancelled = {i for i, result in enumerate(results) if result.cancel()}
        for i, result in enumerate(results):
            if i not in cancelled:
                assert result.get(PATIENCE) == 3 * i + 3
    assert [i for i, times in enumerate(marks.read()) if times != (i not in cancelled)] == []


def test_100_cancels_while_a_stream_runs(gate: Gate) -> None:
    with Pool(2) as pool:
        standing = pool.submit(calls.stand, gate, "value")
        gate.reached()
        cancelled = 0
        for at, value in enumerate(pool.imap(calls.double, iter(range(MANY)))):
            assert value == 2 * at
            if at % 100 == 0:
                result = pool.submit(calls.double, at)
                if result.cancel():
                    cancelled += 1
                    assert result.cancelled()
                else:
                    assert result.get(PATIENCE) == 2 * at
        assert at == MANY - 1
        gate.open()
        assert standing.get(PATIENCE) == "value"


def test_100_streams_that_are_left(gate: Gate) -> None:
    """What they had pulled and not begun is dropped; the others get all of theirs."""
    with Pool(2) as pool:
        standing = pool.submit(calls.stand, gate, "value")
        gate.reached()
        kept = pool.imap(calls.double, iter(range(MANY)))
        for n in range(100):
            with pool.imap(calls.double, iter(range(n, MANY))) as left:
                assert next(left) == 2 * n
        assert list(kept) == [2 * i for i in range(MANY)]
        gate.open()
        assert standing.get(PATIENCE) == "value"


@pytest.mark.slow
def test_300_kills_of_running_calls() -> None:
    with Pool(2) as pool:
        others: list[Result[int]] = []
        for n in range(300):
            running = pool.submit(calls.hang)
            others.append(pool.submit(calls.double, n))
            wait_until(running.running, f"call {n} runs")
            assert running.kill()
            error = running.exception(PATIENCE)
            assert isinstance(error, CallKilled), error
        assert [other.get(PATIENCE) for other in others] == [2 * n for n in range(300)]


def test_100_kills_at_once(gate: Gate) -> None:
    """Of calls that run, wait, or are about to begin: each is ended, and those beside them are not."""
    with Pool(2) as pool:
        doomed = [pool.submit(calls.stand, gate) for _ in range(100)]
        others = [pool.submit(calls.double, n) for n in range(1000)]
        gate.reached(), gate.reached()
        assert all(result.kill() for result in doomed)
        kinds: Counter[type] = Counter()
        for result in doomed:
            try:
                kinds[type(result.exception(PATIENCE))] += 1
            except CancelledError:
                kinds[CancelledError] += 1
        assert kinds.keys() == {CallKilled, CancelledError} and kinds[CallKilled] >= 2, kinds
        assert [other.get(PATIENCE) for other in others] == [2 * n for n in range(1000)]


@pytest.mark.parametrize("count, retries", [(100, 0), (100, 1)])
def test_calls_that_kill_their_workers(tmp_path: Path, count: int, retries: int) -> None:
    marks = Marks(tmp_path, 2 * count)
    with Pool(2) as pool:
        found: list[Any] = outcomes(pool.imap(calls.Deadly(str(marks.path), 3), range(2 * count), retries=retries))
        assert pool.map(calls.double, range(100)) == [2 * i for i in range(100)]
    assert len(found) == 2 * count
    for x, one in enumerate(found):
        if x % 2 and not retries:
            call = failed_call(one)
            assert isinstance(one, WorkerDied) and call is not None and call.number == x, one
        else:
            assert one == 3 * x + 3
    assert marks.read() == bytes([1, 1 + retries]) * count
    pids = [one.pid for one in found if isinstance(one, WorkerDied)]
    assert len(set(pids)) == len(pids), "two calls blamed for one death"


@pytest.mark.slow
def test_300_single_calls_that_all_kill_their_workers() -> None:
    """With nothing between that goes well: each is told so, and the pool goes on."""
    with Pool(2) as pool:
        deadly = [pool.submit(calls.kill_self) for _ in range(300)]
        assert {type(result.exception(PATIENCE)) for result in deadly} == {WorkerDied}
        assert pool.submit(calls.double, 2).get(PATIENCE) == 4
