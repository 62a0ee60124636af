"""Each scene has its own model: one function of each kind, under each model, timed side by side.

Run it with a file name, such as `s9_moral.py moral.png`, to have the table drawn, too (matplotlib draws it).
"""

import asyncio
import sys
import time

from rich.console import Console
from rich.table import Table

from procoro import Pool

CALLS = 40
MODELS = {"serial": 1, "threads": 20, "greenlets": 20, "asyncio": 20}  # and how many calls each worker runs at once


def compute(n):
    """Nothing but computing."""
    return sum(k * k for k in range(150_000 + n))


def wait(n):
    """Nothing but waiting, as for a network."""
    time.sleep(0.05)
    return n


def both(n):
    """Some waiting, and some computing on what came."""
    time.sleep(0.03)
    return sum(k * k for k in range(40_000 + n))


async def compute_async(n):
    return compute(n)


async def wait_async(n):
    await asyncio.sleep(0.05)
    return n


async def both_async(n):
    await asyncio.sleep(0.03)
    return sum(k * k for k in range(40_000 + n))


KINDS = {"computing": (compute, compute_async), "waiting": (wait, wait_async), "both": (both, both_async)}


def seconds(model, function):
    """How long CALLS calls take in a pool of this model, once its workers are there."""
    with Pool(2, model=model, concurrency=MODELS[model]) as pool:
        pool.map(function, range(4))
        began = time.perf_counter()
        pool.map(function, range(CALLS))
        return time.perf_counter() - began


def plain_loop(function):
    began = time.perf_counter()
    for n in range(CALLS):
        function(n)
    return time.perf_counter() - began


def measure():
    found = {}
    for kind, (function, function_async) in KINDS.items():
        found[kind] = {"a loop": plain_loop(function)}
        for model in MODELS:
            found[kind][model] = seconds(model, function_async if model == "asyncio" else function)
    return found


def show(found):
    table = Table("seconds for", *next(iter(found.values())), "fastest", title=f"{CALLS} calls, 2 workers")
    for kind, row in found.items():
        fastest = min(row, key=row.get)
        table.add_row(kind, *(f"{taken:.2f}" for taken in row.values()), fastest)
    Console(width=100).print(table)


def draw(found, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(10, 3), layout="constrained")
    for ax, (kind, row) in zip(axes, found.items(), strict=True):
        ax.barh(list(row), list(row.values()))
        ax.invert_yaxis()
        ax.set(title=kind, xlabel=f"seconds for {CALLS} calls")
    figure.savefig(path)


if __name__ == "__main__":
    found = measure()
    show(found)
    for path in sys.argv[1:]:
        draw(found, path)
