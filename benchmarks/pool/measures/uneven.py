"""Calls of very different lengths: how near a pool comes to what its workers could do at most.

The lengths follow a Pareto distribution (alpha 1) between 0.1 and 50 ms: half of the calls take less than 0.2 ms, and
a third of the work is in calls of more than 6 ms. They are not drawn but taken at even distances, so that all runs have
the same work. A call computes; the parent's own CPU comes from the same cores.

What two processes without a pool reach says how much of the two cores the machine gave.
"""

import random
import time

from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.systems import kept
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import burn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from benchmarks.pool.systems import Adapter
    from benchmarks.pool.task import Task

SHORTEST, LONGEST = 0.1, 50.0  # ms
A_SECOND = 10_000  # calls a second that was asked for; they take half of 6.2 s
WARM_UP = [SHORTEST] * 300


def by_map(system: "Adapter", task: "Task") -> "dict[str, float]":
    return _shares(system, task, lambda lengths: system.map(burn, lengths))


def by_imap(system: "Adapter", task: "Task") -> "dict[str, float]":
    return _shares(system, task, lambda lengths: kept(system.imap(burn, lengths, len(lengths))))


def _shares(system: "Adapter", task: "Task", run: "Callable[[list[float]], list[Any]]") -> "dict[str, float]":
    lengths = pareto(int(A_SECOND * task.seconds))
    mixed = lengths.copy()
    random.Random(8).shuffle(mixed)
    system.open(WORKERS)
    run(WARM_UP)
    return {"random": _share(run, mixed), "sorted": _share(run, lengths), "calls": len(lengths)}


def _share(run: "Callable[[list[float]], list[Any]]", lengths: list[float]) -> float:
    began = time.perf_counter()
    results = run(lengths)
    seconds = time.perf_counter() - began
    check_all(results, lengths)
    return sum(lengths) / 1e3 / WORKERS / seconds


def pareto(count: int) -> list[float]:
    """Milliseconds, the shortest first."""
    tail = 1 - SHORTEST / LONGEST
    return [SHORTEST / (1 - tail * (number + 0.5) / count) for number in range(count)]
