"""How long one call takes from submit to result, with nothing else in the pool; one after the other."""

import time

from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from benchmarks.pool.systems import Adapter
    from benchmarks.pool.task import Task

WARM_UP = 100  # calls
FEWEST = 200


def latency(system: "Adapter", task: "Task") -> "dict[str, float]":
    """4,000 calls for each second that was asked for; fewer of who would take more than 1 ms for each."""
    system.open(WORKERS)
    warm_up = system.one_by_one(noop, range(WARM_UP), time.perf_counter)
    one = sorted(seconds for _, seconds in warm_up)[WARM_UP // 2]
    count = min(int(4_000 * task.seconds), max(FEWEST, int(4 * task.seconds / one)))
    found = system.one_by_one(noop, range(count), time.perf_counter)
    check_all([value for value, _ in found], range(count))
    took = sorted(seconds for _, seconds in found)
    return {"p50_us": took[count // 2] * 1e6, "p99_us": took[count * 99 // 100] * 1e6, "calls": count}
