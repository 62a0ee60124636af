"""`ThreadPoolExecutor`."""

from concurrent.futures import ThreadPoolExecutor

from benchmarks.models.hand.processes import Run


def runner(places: int) -> Run:
    pool = ThreadPoolExecutor(places)
    return lambda call, inputs: list(pool.map(call, inputs))
