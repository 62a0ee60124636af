"""Arrays of 8 MiB through a pool: as arguments, as results, as both (and then both directions are counted)."""

import statistics
import time

from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import ARRAY, array_of, head_and_tail, noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from benchmarks.pool.systems import Adapter
    from benchmarks.pool.task import Task

COUNT = 16  # arrays in a run, all different; none is kept


def arrays(system: "Adapter", task: "Task") -> "dict[str, float]":
    numbers = list(range(COUNT))
    items = [array_of(number) for number in numbers]
    system.open(WORKERS)
    return {
        "in_gb_s": _rate(task, lambda: system.imap_unordered(head_and_tail, items, COUNT)),
        "out_gb_s": _rate(task, lambda: map(head_and_tail, system.imap_unordered(array_of, numbers, COUNT))),
        "both_gb_s": 2 * _rate(task, lambda: map(head_and_tail, system.imap_unordered(noop, items, COUNT))),
    }


def _rate(task: "Task", stream: "Callable[[], Iterator[Any]]") -> float:
    """The median of runs until the time is over, after one that does not count."""
    due = [head_and_tail(array_of(number)) for number in range(COUNT)]
    took: list[float] = []
    check_all(sorted(stream()), due)
    while sum(took) < task.seconds:
        began = time.perf_counter()
        values = list(stream())
        took.append(time.perf_counter() - began)
        check_all(sorted(values), due)
    return COUNT * ARRAY / statistics.median(took) / 1e9
