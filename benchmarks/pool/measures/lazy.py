"""A generator of a million items of 1 KB, and a consumer that takes 1 ms for each: what a pool pulls ahead of it.

A window of the run is looked at. Where no result has come by its end the generator ends, so that a system comes back
that pulls all of it first: of such a one `ahead` says how far it came in that time.
"""

import time

from benchmarks.compare.processes import family_mib
from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.pool.systems import Adapter
    from benchmarks.pool.task import Task

ITEMS = 1_000_000
PAUSE = 0.001  # seconds


def lazy(system: "Adapter", task: "Task") -> "dict[str, float]":
    """A window of four times the seconds that were asked for."""
    window = 4 * task.seconds
    pulled = 0
    values: list[bytes] = []

    def items() -> "Iterator[bytes]":
        nonlocal pulled
        for number in range(ITEMS):
            if not values and time.monotonic() > end:
                return
            pulled += 1
            yield item(number)

    system.open(WORKERS)
    end = float("inf")
    system.map(noop, list(range(WORKERS * 4)))
    before = family_mib()
    began = time.monotonic()
    end = began + window
    first, ahead, largest = 0.0, 0, 0.0
    for value in system.imap(noop, items(), ITEMS):
        first = first or time.monotonic() - began
        values.append(value)
        ahead = max(ahead, pulled - len(values))
        if len(values) % 250 == 0:
            largest = max(largest, family_mib() - before)
        if time.monotonic() > end:
            break
        time.sleep(PAUSE)
    largest = max(largest, family_mib() - before)
    check_all(values, [item(number) for number in range(len(values))])
    return {"ahead": ahead, "grown_mib": largest, "first_ms": first * 1e3, "calls": len(values)}


def item(number: int) -> bytes:
    return b"%1000d" % number
