"""One long call in the midst of 1,000 short ones, which the other worker could run: by how much it delays them."""

import time

from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import watched_nap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from benchmarks.pool.systems import Adapter
    from benchmarks.pool.task import Task

SHORT = 0.0001  # seconds
EACH_SIDE = 500  # short calls before the long one, and behind it


def long_call(system: "Adapter", task: "Task") -> "dict[str, float]":
    """`gap_ms`: the longest time in which no short call ran, though some had not begun. `seen_ms`: the longest from the
    end of a short call until the consumer had its value."""
    system.open(WORKERS)
    for _ in system.imap_unordered(watched_nap, [SHORT] * EACH_SIDE, EACH_SIDE):
        pass  # whoever learns the size of batches has learnt it
    lengths = [SHORT] * EACH_SIDE + [task.length] + [SHORT] * EACH_SIDE
    began_at = time.monotonic()
    values, seen_at = [], []
    for value in system.imap_unordered(watched_nap, lengths, len(lengths)):
        seen_at.append(time.monotonic())
        values.append(value)
    check_all(sorted(length for length, _, _ in values), sorted(lengths))
    gap, busy_until = 0.0, began_at
    for length, began, ended in sorted(values, key=lambda value: value[1]):
        if length == SHORT:
            gap = max(gap, began - busy_until)
            busy_until = max(busy_until, ended)
    seen = max(at - ended for at, (length, _, ended) in zip(seen_at, values, strict=True) if length == SHORT)
    return {"gap_ms": gap * 1e3, "seen_ms": seen * 1e3, "calls": len(lengths)}
