"""Looking at processes, and waiting for what is to be seen there."""

import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil

from procoro import Pool
from tests.gate import Gate
from tests.promises import calls

PATIENCE = 10.0


def wait_until(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> None:
    """Wait for a state; fail by its name if it does not come."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.002)


def template(of: int | None = None) -> psutil.Process:
    """The template process of a process (ours)."""
    (found,) = [child for child in psutil.Process(of).children() if "procoro.worker.template" in _command(child)]
    return found


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def workers() -> list[int]:
    """The pids of all workers that live."""
    return [worker.pid for worker in template().children() if not gone(worker.pid)]


def gone(pid: int) -> bool:
    """Has this process ended? (A dead one that nobody has waited for has.)"""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(pid: int) -> None:
    """SIGKILL, and wait for the end."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(pid), f"{pid} is dead")


def all_idle(pool: Pool, gate: Gate, size: int) -> set[int]:
    """The pids of all workers of a pool, each of which has run a call and waits for the next."""
    results = [pool.submit(calls.stand, gate) for _ in range(size)]
    pids = {gate.reached() for _ in results}
    assert len(pids) == size
    gate.open(size)
    for result in results:
        result.get(PATIENCE)
    return pids


def in_a_loop(pid: int) -> None:
    """Wait until a process has computed for a while."""
    began = sum(psutil.Process(pid).cpu_times()[:2])
    wait_until(lambda: sum(psutil.Process(pid).cpu_times()[:2]) > began + 0.1, f"{pid} computes")


def outcomes(stream: Any, most: int | None = None) -> list[Any]:
    """What a stream gives at each place: values, and exceptions as they are. Goes on behind those."""
    found: list[Any] = []
    while most is None or len(found) < most:
        try:
            found.append(stream.next(PATIENCE))
        except StopIteration:
            break
        except Exception as error:
            found.append(error)
    return found


def errors_in(found: Iterable[Any]) -> dict[int, Exception]:
    """The exceptions among outcomes, by place."""
    return {at: one for at, one in enumerate(found) if isinstance(one, Exception)}
