"""Calls per second of a warm pool: streams, maps, and single submits in bulk.

A slow and a fast system cannot be asked the same number of calls: one would need minutes, the other would be
over before it is warm. So the number grows until the timed part lasts `task.seconds`; the last, longest run
counts, and the runs before it, of which there is one at least, are its warm-up. The garbage collector stays on, as in
a user's program.
"""

import gc
import time

from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.systems import kept
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import INPUTS, noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from benchmarks.pool.systems import Adapter
    from benchmarks.pool.task import Task

    Run = Callable[[Sequence[Any]], list[Any]]

FIRST_RUN = 500
GROWTH_AT_MOST = 10


def imap(system: "Adapter", task: "Task") -> "dict[str, float]":
    system.open(WORKERS)
    return sustained(lambda items: system.stream(noop, items), task)


def imap_unordered(system: "Adapter", task: "Task") -> "dict[str, float]":
    system.open(WORKERS)
    return sustained(lambda items: kept(system.imap_unordered(noop, items, len(items))), task, ordered=False)


def map_(system: "Adapter", task: "Task") -> "dict[str, float]":
    system.open(WORKERS)
    return sustained(lambda items: system.map(noop, items), task)


def submit_all(system: "Adapter", task: "Task") -> "dict[str, float]":
    system.open(WORKERS)
    return sustained(lambda items: system.submit_all(noop, items), task)


def sustained(run: "Run", task: "Task", ordered: bool = True) -> "dict[str, float]":
    calls = min(FIRST_RUN, task.most)
    timed(run, INPUTS[task.inputs](calls), ordered)
    while True:
        figures = timed(run, INPUTS[task.inputs](calls), ordered)
        if figures["seconds"] >= task.seconds or calls >= task.most:
            return figures
        growth = 1.3 * task.seconds / figures["seconds"]
        calls = min(task.most, int(calls * min(growth, GROWTH_AT_MOST)) + 1)


def timed(run: "Run", items: "Sequence[Any]", ordered: bool = True) -> "dict[str, float]":
    gc.collect()
    cpu_before, started_at = time.process_time(), time.perf_counter()
    results = run(items)
    seconds, cpu = time.perf_counter() - started_at, time.process_time() - cpu_before
    check_all(results if ordered else sorted(results), items)
    return {
        "rate": len(items) / seconds,
        "calls": len(items),
        "seconds": seconds,
        "parent_cpu_us": cpu / len(items) * 1e6,
    }
