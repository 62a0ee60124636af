"""`imap(noop)` of `x` bytes, there and back."""

import time

from benchmarks.growth.studies import Figures
from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.systems import Adapter, kept
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import noop

MOST_BYTES = 1 << 29  # in one run, since the results are kept
MOST_CALLS = 200_000
FEWEST = 2


def payload(system: Adapter, x: float, seconds: float) -> Figures:
    """Gigabytes a second, each way counted once; and calls a second. The number of calls grows until a run is long."""
    size = int(x)
    item = bytes(range(256)) * (size // 256 + 1)
    item = item[:size]
    system.open(WORKERS)
    most = max(FEWEST, min(MOST_CALLS, MOST_BYTES // size))
    calls = FEWEST
    while True:
        items = [item] * calls
        began = time.perf_counter()
        values = kept(system.imap(noop, items, calls))
        took = time.perf_counter() - began
        check_all(values, items)
        if took >= seconds or calls >= most:
            rate = calls / took
            return [{"x": x, "gb_s": rate * size / 1e9, "rate": rate, "call_us": 1e6 / rate}]
        calls = min(most, calls * 4)
