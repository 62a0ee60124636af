"""Who was stopped for a while (SIGSTOP, a suspended machine, a clock set back) is not taken for late, hung or dead."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from procoro import Pool, crank
from procoro.engines import local
from procoro.errors import CallKilled, CallTimeout, PoolTerminated, WorkerDied
from tests.gate import Gate
from tests.promises import calls
from tests.promises.conftest import Script, Start
from tests.promises.looks import PATIENCE, all_idle, gone, template, wait_until

PROGRAM = """
import sys, threading
from procoro import Pool, errors
from tests.gate import Turnstile
from tests.promises import calls, looks

gate = Turnstile(sys.argv[1])
with Pool(2, timeout=float(sys.argv[2])) as pool:
    pool.map(calls.double, range(10))
    results = [pool.submit(calls.stand, gate, i) for i in range(2)]
    behind = [pool.submit(calls.double, i) for i in range(100)]
    looks.wait_until(lambda: all(result.running() for result in results), "their time has begun")
    print("running", flush=True)
    print([result.get() for result in results], [result.get() for result in behind] == [2 * i for i in range(100)])
    hangs = pool.submit(calls.hang)
    print(type(hangs.exception()).__name__, flush=True)
"""


def stop(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        wait_until(lambda pid=pid: psutil.Process(pid).status() == psutil.STATUS_STOPPED, f"{pid} is stopped")


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    stop(*pids)
    try:
        yield
    finally:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass


@pytest.mark.parametrize("whom", ["parent", "all"])
def test_a_stopped_program_times_out_no_call(start: Start, gate: Gate, whom: str) -> None:
    """As Ctrl-Z and `fg` do: the calls have not had their time, though the clock says so."""
    timeout = 2.0
    process = start(PROGRAM, gate.folder, timeout)
    gate.reached(), gate.reached()
    assert process.stdout is not None and process.stdout.readline() == "running\n"
    pids = [process.pid]
    if whom == "all":
        pids += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    with stopped(*pids):
        if whom == "parent":
            gate.open(2)  # the workers go on, and end in time
        time.sleep(timeout + 0.2)
    time.sleep(0.1)  # the parent looks at the clock
    gate.open(2)
    out, said = process.communicate(timeout=3 * PATIENCE)
    assert (process.returncode, out, said) == (0, "[0, 1] True\nCallTimeout\n", "")


def test_the_time_of_a_stop_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        monotonic = staticmethod(lambda: at)

    at = 1000.0
    monkeypatch.setattr(crank, "time", Clock)
    counted = crank.Crank()
    try:
        began = counted.now()
        for _ in range(20):
            at += 0.5
            counted.now()
        assert counted.now() == began + 10, "looks that follow each other"
        at += 3600
        assert counted.now() < began + 10.5, "a stop"
        at += 0.25
        assert began + 10.25 <= counted.now() < began + 10.75, "and on it goes"
    finally:
        counted._close()


def test_a_stopped_worker_is_late_and_not_dead(gate: Gate) -> None:
    with Pool(1) as pool:
        standing = pool.submit(calls.stand, gate, 1)
        behind = [pool.submit(calls.double, i) for i in range(10)]
        pid = gate.reached()
        with stopped(pid):
            gate.open()
            assert not standing.cancel() and not standing.done()
        assert standing.get(PATIENCE) == 1
        assert [result.get(PATIENCE) for result in behind] == [2 * i for i in range(10)]
        assert pool.apply(calls.pid) == pid


def test_what_stands_behind_a_stopped_worker_goes_elsewhere(gate: Gate) -> None:
    with Pool(2) as pool:
        first, *_ = all_idle(pool, gate, 2)
        with stopped(first):
            results = [pool.submit(calls.pid) for _ in range(200)]
            done = [result.get(PATIENCE) for result in results[1:]]
            assert first not in done
        assert results[0].get(PATIENCE) in (first, *done)


@pytest.mark.parametrize("end", ["timeout", "kill", "terminate"])
def test_a_stopped_worker_can_be_ended(gate: Gate, end: str) -> None:
    with Pool(1, timeout=0.3 if end == "timeout" else None) as pool:
        standing = pool.submit(calls.stand, gate)
        pid = gate.reached()
        with stopped(pid):
            match end:
                case "timeout":
                    assert isinstance(standing.exception(PATIENCE), CallTimeout)
                case "kill":
                    assert standing.kill() and isinstance(standing.exception(PATIENCE), CallKilled)
                case _:
                    pool.terminate()
            wait_until(lambda: gone(pid), "it is gone")
        if end != "terminate":
            assert pool.apply(calls.double, (1,)) == 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for what the template does not tell."""
    monkeypatch.setattr(local, "UNTOLD", 0.1)


@pytest.mark.usefixtures("impatient")
def test_while_the_template_is_stopped_calls_run_and_deaths_are_told(gate: Gate) -> None:
    """Only new workers wait for it, and how the old ones ended may stay unknown."""
    with Pool(2) as pool:
        one, two = all_idle(pool, gate, 2)
        with stopped(template().pid):
            assert pool.map(calls.double, range(100)) == [2 * i for i in range(100)]
            dies = pool.submit(calls.kill_self)
            error = dies.exception(PATIENCE)
            assert isinstance(error, WorkerDied) and error.pid in (one, two)
            assert pool.submit(calls.pid).get(PATIENCE) == ({one, two} - {error.pid}).pop()
            standing = pool.submit(calls.stand, gate)
            gate.reached()
            assert standing.kill() and isinstance(standing.exception(PATIENCE), CallKilled)
            waiting = pool.submit(calls.double, 4)
        assert waiting.get(PATIENCE) == 8


def test_a_death_is_no_lateness_though_how_it_came_is_heard_after_the_time() -> None:
    with Pool(1, timeout=0.3) as pool:
        assert pool.submit(calls.double, 1).get(PATIENCE) == 2
        with stopped(template().pid):
            dies = pool.submit(calls.kill_self)
            time.sleep(0.6)  # in which it would be ended for its time-out, were it not dead
        with pytest.raises(WorkerDied):
            dies.get(PATIENCE)


@pytest.mark.usefixtures("impatient")
def test_a_pool_ends_though_its_template_is_stopped(gate: Gate) -> None:
    with Pool(2) as pool:
        all_idle(pool, gate, 2)
        standing = pool.submit(calls.stand, gate)
        gate.reached()
        with stopped(template().pid):
            pool.terminate()
        assert isinstance(standing.exception(0), PoolTerminated)


@pytest.mark.usefixtures("impatient")
def test_a_new_pool_ends_though_its_template_is_stopped(gate: Gate) -> None:
    with Pool(1) as pool:
        pool.apply(calls.double, (1,))
        with stopped(template().pid), Pool(2) as new:
            waiting = new.submit(calls.double, 1)
            assert not waiting.done()
        assert isinstance(waiting.exception(0), PoolTerminated)
        assert pool.apply(calls.double, (1,)) == 2


CLOCKS = """
import os, select, sys, time
from procoro import Pool, errors
from tests.gate import Turnstile
from tests.promises import calls

gate = Turnstile(sys.argv[1])


def nap(seconds):  # libfaketime breaks time.sleep
    select.select([], [], [], seconds)
    return seconds


def set_back(hours):
    before = time.time()
    with open(os.environ["FAKETIME_TIMESTAMP_FILE"], "w") as file:
        file.write(f"{-hours}h")
    while time.time() > before - 3000:  # it looks into the file once a second
        pass


with Pool(2, timeout=0.5) as pool:
    pool.map(calls.double, range(10))
    hangs, after = pool.submit(calls.hang), pool.submit(nap, 0.1)
    stream = pool.imap(nap, iter([0.1, 0, 0.2]), timeout=30)
    set_back(1)
    print(type(hangs.exception(10)).__name__, after.get(10), list(stream))
    standing = pool.submit(calls.stand, gate)
    set_back(2)
    print(type(standing.exception(10)).__name__, pool.map(nap, [0.01] * 3))
"""


@pytest.mark.slow
def test_the_clock_is_set_back(script: Script, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No time of day is looked at: what waits for its time waits no longer, and no less."""
    found = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), *Path("/usr/lib").glob("faketime/libfaketimeMT*")]
    if not found:
        pytest.skip("libfaketime is not installed")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    monkeypatch.setenv("LD_PRELOAD", str(found[0]))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(clock))
    for name in ("FAKETIME_CACHE_DURATION", "FAKETIME_DONT_FAKE_MONOTONIC"):
        monkeypatch.setenv(name, "1")
    assert script(CLOCKS, gate.folder) == "CallTimeout 0.1 [0.1, 0, 0.2]\nCallTimeout [0.01, 0.01, 0.01]\n"
