"""What the import statement of a system adds to a bare interpreter: two whole processes, by turns."""

import statistics
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from benchmarks.pool.systems.protocol import System
    from benchmarks.pool.task import Task


def importing(system: "System", task: "Task") -> "dict[str, float]":
    """`task.most` pairs; the difference of each pair, and its median."""
    bare, above = [], []
    for _ in range(task.most):
        bare.append(_milliseconds("pass"))
        above.append(_milliseconds(system.imports) - bare[-1])
    return {"above_ms": statistics.median(above), "bare_ms": statistics.median(bare), "calls": task.most}


def _milliseconds(statement: str) -> float:
    started_at = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return (time.perf_counter() - started_at) * 1e3
