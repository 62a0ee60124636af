"""How long a pool takes to come and to go. The library is imported; what it loads later counts."""

import time

from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.pool.systems.protocol import OpenPool, System
    from benchmarks.pool.task import Task


def start_and_close(system: "System", task: "Task") -> "dict[str, float]":
    return _live(system, lambda pool: pool.close())


def start_and_leave(system: "System", task: "Task") -> "dict[str, float]":
    return _live(system, lambda pool: pool.leave())


def _live(system: "System", end: "Callable[[OpenPool], None]") -> "dict[str, float]":
    started_at = time.perf_counter()
    pool = system.open(WORKERS)
    result = pool.call(noop, 7)
    answered_at = time.perf_counter()
    end(pool)
    ended_at = time.perf_counter()
    check_all([result], [7])
    return {"first_ms": (answered_at - started_at) * 1e3, "end_ms": (ended_at - answered_at) * 1e3}
