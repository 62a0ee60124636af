"""Promise 4, and who a timeout must not hit."""

import os
import signal

import pytest

from procoro import Pool
from procoro.errors import CallTimeout, failed_call
from tests.gate import Gate
from tests.promises import calls
from tests.promises.conftest import Start
from tests.promises.looks import PATIENCE, all_idle, errors_in, gone, outcomes, wait_until


def test_an_uninterruptible_loop_is_ended_and_its_slot_comes_back(gate: Gate) -> None:
    with Pool(1, timeout=0.5) as pool:
        spins = pool.submit(calls.spin, gate)
        pid = gate.reached()
        after = [pool.submit(calls.double, i) for i in range(100)]
        gate.open()
        with pytest.raises(CallTimeout, match=r"spin\(.*\) .*ran longer than its timeout of 0.5 s") as caught:
            spins.get(PATIENCE)
        assert [result.get(PATIENCE) for result in after] == [2 * i for i in range(100)]
        assert gone(pid)
        assert pool.apply(calls.pid) != pid
    assert isinstance(caught.value, TimeoutError)
    call = failed_call(caught.value)
    assert call is not None and call.function == "spin" and call.pid == pid


def test_in_a_stream_only_the_late_call_fails() -> None:
    with Pool(2) as pool:
        found = outcomes(pool.imap(calls.spin_if_5, range(200), timeout=0.4))
    assert [type(error) for error in errors_in(found).values()] == [CallTimeout]
    assert "spin_if_5(5) [call 5]" in str(found[5])
    assert [value for at, value in enumerate(found) if at != 5] == [2 * i for i in range(200) if i != 5]


def test_a_stopped_worker_is_hung_and_is_ended(gate: Gate) -> None:
    with Pool(2, timeout=0.5) as pool:
        stands = pool.submit(calls.stand, gate)
        pid = gate.reached()
        os.kill(pid, signal.SIGSTOP)
        gate.open()
        others = pool.map_async(calls.double, range(1000))
        assert isinstance(stands.exception(PATIENCE), CallTimeout)
        assert others.get(PATIENCE) == [2 * i for i in range(1000)]
        wait_until(lambda: gone(pid), "the stopped worker is ended")


def test_a_worker_that_is_stopped_and_continued_in_time_loses_nothing(gate: Gate) -> None:
    with Pool(1, timeout=5) as pool:
        stands = pool.submit(calls.stand, gate, 7)
        pid = gate.reached()
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)
        gate.open()
        assert stands.get(PATIENCE) == 7
        assert pool.apply(calls.pid) == pid


def test_a_worker_stopped_while_idle_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procoro.scheduler.scheduler.HUNG", 0.5)  # seconds granted to one that has nothing to run
    with Pool(1, timeout=0.3) as pool:
        os.kill(pool.apply(calls.pid), signal.SIGSTOP)
        first = pool.submit(calls.double, 1)
        assert first.get(20) == 2, "it was not begun: it is run elsewhere"
        assert pool.apply(calls.double, (2,)) == 4


def test_a_worker_stopped_while_idle_gets_no_call_for_good_where_another_lives(gate: Gate) -> None:
    with Pool(2) as pool:
        pid, _ = all_idle(pool, gate, 2)
        os.kill(pid, signal.SIGSTOP)
        assert pool.map(calls.double, range(1000)) == [2 * i for i in range(1000)]
        assert [pool.submit(calls.double, i).get(PATIENCE) for i in range(5)] == [2 * i for i in range(5)]
        os.kill(pid, signal.SIGCONT)


def test_time_spent_waiting_for_a_worker_does_not_count() -> None:
    with Pool(1, timeout=0.6) as pool:
        results = [pool.submit(calls.nap, 0.2) for _ in range(6)]
        assert [result.get(PATIENCE) for result in results] == [0.2] * 6


def test_time_of_the_calls_before_in_one_packet_does_not_count() -> None:
    with Pool(1, timeout=0.4) as pool:
        assert pool.map(calls.nap, [0.02] * 40, chunksize=40) == [0.02] * 40


def test_calls_behind_a_late_one_in_its_packet_are_run() -> None:
    with Pool(1, timeout=0.4) as pool:
        found = outcomes(pool.imap(calls.spin_if_5, range(10), chunksize=10))
    assert list(errors_in(found)) == [5]
    assert [value for at, value in enumerate(found) if at != 5] == [2 * i for i in range(10) if i != 5]


def test_a_parent_that_was_stopped_ends_no_call(start: Start, gate: Gate) -> None:
    process = start(
        """
        import sys
        from procoro import Pool
        from tests.gate import Turnstile
        from tests.promises import calls

        with Pool(1, timeout=1.5) as pool:
            print(pool.apply(calls.stand, (Turnstile(sys.argv[1]), "value")))
        """,
        gate.folder,
    )
    gate.reached()
    os.kill(process.pid, signal.SIGSTOP)
    calls.nap(2.0)  # the passing of time is what is tested
    os.kill(process.pid, signal.SIGCONT)
    gate.open()
    assert process.communicate(timeout=5) == ("value\n", "")


@pytest.mark.parametrize("timeout", [0, -1, "1", True, float("nan")])
def test_what_is_no_timeout_is_refused(timeout: object) -> None:
    with pytest.raises((TypeError, ValueError), match="timeout must be"):
        Pool(1, timeout=timeout)  # type: ignore[arg-type]
