"""What the import statement of a system adds to a bare interpreter: two whole processes, by turns."""

import statistics
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from benchmarks.pool.systems import Adapter
    from benchmarks.pool.task import Task


def importing(system: "Adapter", task: "Task") -> "dict[str, float]":
    """16 pairs a second that was asked for; the difference of each pair, and its median."""
    pairs = int(16 * task.seconds)
    bare, above = [], []
    for _ in range(pairs):
        bare.append(_milliseconds("pass"))
        above.append(_milliseconds(system.imports) - bare[-1])
    return {"above_ms": statistics.median(above), "bare_ms": statistics.median(bare), "calls": pairs}


def _milliseconds(statement: str) -> float:
    started_at = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return (time.perf_counter() - started_at) * 1e3
