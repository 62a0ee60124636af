"""What the import statement of a system adds to a bare interpreter: whole processes, by turns."""

import statistics
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from benchmarks.pool.systems import Adapter
    from benchmarks.pool.task import Task


def importing(system: "Adapter", task: "Task") -> "dict[str, float]":
    """16 turns a second that was asked for; the median of the differences to a bare one of the same turn. `pool_ms`: of
    the statement that names the pool."""
    turns = int(16 * task.seconds)
    bare, above, pool = [], [], []
    for _ in range(turns):
        bare.append(_milliseconds("pass"))
        above.append(_milliseconds(system.imports) - bare[-1])
        pool.append(_milliseconds(system.names_pool or system.imports) - bare[-1])
    return {
        "above_ms": statistics.median(above),
        "pool_ms": statistics.median(pool),
        "bare_ms": statistics.median(bare),
        "calls": turns,
    }


def _milliseconds(statement: str) -> float:
    started_at = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return (time.perf_counter() - started_at) * 1e3
