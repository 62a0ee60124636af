"""How long a pool takes to come and to go. The library is imported; what it loads later counts."""

import time

from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.pool.systems import Adapter
    from benchmarks.pool.task import Task


def start(system: "Adapter", task: "Task") -> "dict[str, float]":
    system.load()
    return {"first_ms": _first(system)}


def close(system: "Adapter", task: "Task") -> "dict[str, float]":
    return _end(system, system.close)


def leave(system: "Adapter", task: "Task") -> "dict[str, float]":
    return _end(system, system.leave)


def _end(system: "Adapter", end: "Callable[[], None]") -> "dict[str, float]":
    system.load()
    _first(system)
    began = time.perf_counter()
    end()
    return {"end_ms": (time.perf_counter() - began) * 1e3}


def _first(system: "Adapter") -> float:
    """Milliseconds until the first result."""
    began = time.perf_counter()
    system.open(WORKERS)
    result = system.call(noop, 7)
    seconds = time.perf_counter() - began
    check_all([result], [7])
    return seconds * 1e3
