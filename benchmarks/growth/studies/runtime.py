"""`map` of calls that compute `x` seconds, beside a plain loop over the same calls in the same process."""

import time
from collections.abc import Callable
from typing import Any

from benchmarks.growth.studies import Figures
from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.systems import Adapter
from benchmarks.pool.task import WORKERS

FEWEST = 4  # calls


def spin(rounds: int) -> int:
    for _ in range(rounds):
        pass
    return rounds


def runtime(system: Adapter, x: float, seconds: float) -> Figures:
    """`speedup`: over the loop. `loop_us`: what a call takes there, which is `x` or near it."""
    rounds = max(1, round(x * _rounds_a_second()))
    items = [rounds] * max(FEWEST, int(seconds / x))
    system.open(WORKERS)
    system.map(spin, items[: len(items) // 4 + 1])
    before = _seconds(lambda: [spin(item) for item in items], items)
    took = _seconds(lambda: system.map(spin, items), items)
    after = _seconds(lambda: [spin(item) for item in items], items)
    loop = (before + after) / 2
    return [{"x": x, "speedup": loop / took, "loop_us": loop / len(items) * 1e6, "pool_us": took / len(items) * 1e6}]


def _rounds_a_second() -> float:
    """The fastest of ten: others may use the machine."""
    rounds = 100_000
    took = []
    for _ in range(10):
        began = time.perf_counter()
        spin(rounds)
        took.append(time.perf_counter() - began)
    return rounds / min(took)


def _seconds(run: Callable[[], list[Any]], items: list[int]) -> float:
    began = time.perf_counter()
    values = run()
    seconds = time.perf_counter() - began
    check_all(values, items)
    return seconds
