"""`imap` whose calls compute 20 µs, and whose consumer does so, too: on two cores it need not be slower than alone."""

import time

from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import burn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.pool.systems import Adapter
    from benchmarks.pool.task import Task

EACH = 0.02  # ms
A_SECOND = 60_000  # calls a second that was asked for


def consumer(system: "Adapter", task: "Task") -> "dict[str, float]":
    """`share`: of the speed at which the consumer takes values from a list."""
    items = [EACH] * int(A_SECOND * task.seconds)
    system.open(WORKERS)
    _consume(system.imap(burn, items[:1000], 1000))
    alone, _ = _consume(items)
    seconds, values = _consume(system.imap(burn, items, len(items)))
    again, _ = _consume(items)
    check_all(values, items)
    return {"share": (alone + again) / 2 / seconds, "calls": len(items)}


def _consume(stream: "Iterable[float]") -> tuple[float, list[float]]:
    """Seconds, and what came."""
    values = []
    began = time.perf_counter()
    for value in stream:
        burn(EACH)
        values.append(value)
    return time.perf_counter() - began, values
