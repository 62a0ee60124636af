"""One `imap(noop, range(x))`, looked at 50 times on its way."""

import itertools
import time

from benchmarks.compare.processes import family_mib
from benchmarks.growth.studies import Figures
from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.systems import Adapter
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import noop

LOOKS = 50


def endless(system: Adapter, x: float, seconds: float) -> Figures:
    """Calls a second since the last look, and the memory of all processes; to look and to check is not timed."""
    count = int(x)
    window = count // LOOKS
    system.open(WORKERS)
    stream = system.imap(noop, range(count), count)
    figures = []
    for first in range(0, window * LOOKS, window):
        began = time.perf_counter()
        values = list(itertools.islice(stream, window))
        took = time.perf_counter() - began
        check_all(values, range(first, first + window))
        del values
        figures.append({"x": first + window, "rate": window / took, "mib": family_mib()})
    return figures
