"""`imap(noop, ints)` with `x` workers."""

from benchmarks.growth.studies import Figures
from benchmarks.pool.measures.throughput import sustained
from benchmarks.pool.systems import Adapter
from benchmarks.pool.task import Task
from benchmarks.pool.workload import noop

MOST = 4_000_000  # calls


def workers(system: Adapter, x: float, seconds: float) -> Figures:
    """Calls a second, and the parent's CPU, all its threads together."""
    system.open(int(x))
    return [{"x": x} | sustained(lambda items: system.stream(noop, items), Task(str(seconds), most=str(MOST)))]
