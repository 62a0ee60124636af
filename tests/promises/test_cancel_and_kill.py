"""`cancel` ends what has not begun; `kill` also what runs; neither touches another call."""

import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import CallKilled
from tests.gate import Gate
from tests.promises import calls
from tests.promises.looks import PATIENCE, gone, in_a_loop


def test_cancel_of_waiting_calls(gate: Gate, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with Pool(1) as pool:
        running = pool.submit(calls.stand, gate, 1)
        pid = gate.reached()
        waiting = [pool.submit(calls.note, str(notes)) for _ in range(10)]
        assert [result.cancel() for result in waiting[::2]] == [True] * 5
        assert all(result.cancelled() and result.done() for result in waiting[::2])
        assert waiting[0].cancel(), "again"
        with pytest.raises(CancelledError):
            waiting[0].get(0)
        gate.open()
        assert running.get(PATIENCE) == 1
        assert [result.get(PATIENCE) for result in waiting[1::2]] == [1, 2, 3, 4, 5]
        assert pool.apply(calls.pid) == pid
    assert notes.stat().st_size == 5, "what was cancelled was not run"


def test_a_running_call_is_not_cancelled(gate: Gate) -> None:
    with Pool(1) as pool:
        running = pool.submit(calls.stand, gate, 1)
        gate.reached()
        assert not running.cancel()
        assert not running.done() and not running.cancelled()
        gate.open()
        assert running.get(PATIENCE) == 1
        assert not running.cancel()


@pytest.mark.parametrize("call", [calls.stand, calls.spin])
def test_kill_of_a_running_call_frees_its_slot(call: object, gate: Gate) -> None:
    with Pool(1) as pool:
        running = pool.submit(call, gate)  # type: ignore[arg-type]
        pid = gate.reached()
        behind = [pool.submit(calls.double, i) for i in range(50)]
        if call is calls.spin:
            gate.open()
            in_a_loop(pid)
        assert running.kill()
        with pytest.raises(CallKilled, match=f"{call.__name__}.*kill"):  # type: ignore[attr-defined]
            running.get(PATIENCE)
        assert [result.get(PATIENCE) for result in behind] == [2 * i for i in range(50)]
        assert gone(pid)
        assert not running.kill()


def test_kill_of_a_waiting_call_kills_no_worker(gate: Gate) -> None:
    with Pool(1) as pool:
        running = pool.submit(calls.stand, gate, 1)
        gate.reached()
        waiting = pool.submit(calls.double, 1)
        assert waiting.kill()
        assert waiting.cancelled()
        gate.open()
        assert running.get(PATIENCE) == 1


def test_kill_is_not_retried(gate: Gate) -> None:
    with Pool(1, retries=5) as pool:
        running = pool.submit(calls.stand, gate)
        gate.reached()
        assert running.kill()
        assert isinstance(running.exception(PATIENCE), CallKilled)
        assert pool.apply(calls.double, (1,)) == 2


def test_cancel_and_kill_of_calls_that_are_over() -> None:
    with Pool(1) as pool:
        results = [pool.submit(calls.double, 1), pool.submit(calls.raise_if_3, 3)]
        for result in results:
            result.wait(PATIENCE)
            assert not result.cancel() and not result.kill() and result.done() and not result.cancelled()
        assert results[0].get(0) == 2


def test_cancel_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    """Each call is either cancelled and not run, or run once and has its value."""
    marks = tmp_path / "marks"
    marks.write_bytes(bytes(2000))
    with Pool(2) as pool:
        results = [pool.submit(calls.Marked(str(marks), 3), i) for i in range(2000)]
        cancelled = {i for i in range(0, 2000, 3) if results[i].cancel()}
        for i, result in enumerate(results):
            if i in cancelled:
                assert result.cancelled()
            else:
                assert result.get(PATIENCE) == 3 * i + 3
    assert {i for i, mark in enumerate(marks.read_bytes()) if mark == 0} == cancelled
    assert max(marks.read_bytes()) == 1


def test_kill_at_random_moments_hits_only_its_call() -> None:
    with Pool(2) as pool:
        for _ in range(10):
            results = [pool.submit(calls.double, i) for i in range(100)]
            killed = results[50].kill()
            for i, result in enumerate(results):
                if i == 50 and killed:
                    with pytest.raises((CallKilled, CancelledError)):  # it ran, or waited
                        result.get(PATIENCE)
                else:
                    assert result.get(PATIENCE) == 2 * i


@pytest.mark.parametrize("method", ["cancel", "kill"])
def test_a_call_is_cancelled_though_others_are_just_being_submitted(method: str, gate: Gate, monkeypatch: Any) -> None:
    """A thread within `submit` had lost the GIL: so procoro's own could not fetch what had been submitted before."""
    with Pool(1) as pool:
        assert pool.submit(abs, -1).get() == 1  # it is known, and goes to batches from now on
        standing = pool.submit(calls.stand, gate, "value")
        gate.reached()
        within, fetched = threading.Event(), threading.Event()
        open_batch = pool._open_batch

        def slow(*args: Any) -> Any:
            if threading.current_thread() is other:
                within.set()
                fetched.wait(PATIENCE)
            return open_batch(*args)

        monkeypatch.setattr(pool, "_open_batch", slow)
        other = threading.Thread(target=lambda: pool.submit(len, "x"))
        pool._conductor.crank.post(lambda: within.wait(PATIENCE))
        result = pool.submit(abs, -2)
        other.start()
        within.wait(PATIENCE)
        put_off = pool._conductor.put_off

        def let_in(fetch: Any) -> None:
            put_off(fetch)
            threading.Timer(0.05, fetched.set).start()

        monkeypatch.setattr(pool._conductor, "put_off", let_in)
        assert getattr(result, method)()
        other.join()
        gate.open()
        assert standing.get(PATIENCE) == "value"
        with pytest.raises(CancelledError):
            result.get(PATIENCE)
