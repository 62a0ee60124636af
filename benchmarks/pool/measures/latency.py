"""How long one call takes from submit to result, with nothing else in the pool; one after the other."""

import time

from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from benchmarks.pool.systems.protocol import System
    from benchmarks.pool.task import Task

WARM_UP = 100


def latency(system: "System", task: "Task") -> "dict[str, float]":
    pool = system.open(WORKERS)
    for item in range(WARM_UP):
        pool.call(noop, item)
    results, took = [], []
    for item in range(task.most):
        started_at = time.perf_counter()
        results.append(pool.call(noop, item))
        took.append(time.perf_counter() - started_at)
    pool.close()
    check_all(results, range(task.most))
    took.sort()
    return {
        "p50_us": took[len(took) // 2] * 1e6,
        "p99_us": took[len(took) * 99 // 100] * 1e6,
        "calls": task.most,
    }
