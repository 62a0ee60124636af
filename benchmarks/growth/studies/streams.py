"""`x` threads at once, each of which takes its own `imap(noop, ints)` from one pool."""

import threading
import time
from typing import Any

from benchmarks.growth.studies import Figures
from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.systems import Adapter, kept
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import noop

PROBE = 10_000  # calls
FEWEST = 500  # of a stream


def streams(system: Adapter, x: float, seconds: float) -> Figures:
    """Calls a second of all together; `fairness`: after which part of the time the first was over: 1 is fair."""
    count = int(x)
    system.open(WORKERS)
    kept(system.imap(noop, range(PROBE), PROBE))
    began = time.perf_counter()
    kept(system.imap(noop, range(PROBE), PROBE))
    each = max(FEWEST, int(seconds * PROBE / (time.perf_counter() - began) / count))
    found: list[list[Any]] = [[] for _ in range(count)]
    ends = [0.0] * count
    start = threading.Barrier(count + 1)

    def consume(number: int) -> None:
        start.wait()
        found[number] = kept(system.imap(noop, range(each), each))
        ends[number] = time.perf_counter()

    threads = [threading.Thread(target=consume, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    for values in found:
        check_all(values, range(each))
    last = max(ends) - began
    return [{"x": x, "rate": count * each / last, "fairness": (min(ends) - began) / last, "calls": count * each}]
