"""Many of everything: descriptors, threads, pools, waiting calls."""

import os
import threading

import pytest

from procoro import Pool
from procoro.kernel import resident
from procoro.results.result import Result
from tests.gate import Gate
from tests.promises import calls
from tests.promises.looks import PATIENCE


def test_a_parent_with_1000_descriptors_and_threads() -> None:
    """Workers inherit none of them."""
    leave = threading.Event()
    threads = [threading.Thread(target=leave.wait) for _ in range(1000)]
    descriptors = [os.dup(0) for _ in range(1000)]
    try:
        for thread in threads:
            thread.start()
        with Pool(2) as pool:
            assert pool.map(calls.double, range(1000)) == [2 * i for i in range(1000)]
            assert len(pool.apply(os.listdir, ("/proc/self/fd",))) < 20
            assert len(pool.apply(os.listdir, ("/proc/self/task",))) == 1
    finally:
        leave.set()
        for descriptor in descriptors:
            os.close(descriptor)
        for thread in threads:
            if thread.ident is not None:
                thread.join(PATIENCE)


def test_20_pools_at_once() -> None:
    pools = [Pool(2) for _ in range(20)]
    try:
        streams = [pool.imap(calls.double, iter(range(n, n + 500))) for n, pool in enumerate(pools)]
        results = [pool.submit(calls.double, n) for n, pool in enumerate(pools)]
        for n, stream in enumerate(streams):
            assert list(stream) == [2 * i for i in range(n, n + 500)]
        assert [result.get(PATIENCE) for result in results] == [2 * n for n in range(20)]
    finally:
        for pool in pools:
            pool.terminate()


@pytest.mark.parametrize("count", [50_000, pytest.param(300_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_a_deep_queue(gate: Gate, count: int) -> None:
    """About 400 bytes of memory for a call that waits; and each has its value."""
    with Pool(1) as pool:
        standing = pool.submit(calls.stand, gate)
        gate.reached()
        before = resident(os.getpid())
        waiting: list[Result[int]] = [pool.submit(calls.double, i) for i in range(count)]
        waiting[-1].running()  # the crank has fetched them
        each = (resident(os.getpid()) - before) / count
        print(f"{each:.0f} bytes for each call that waits")
        assert each < 1000
        gate.open()
        standing.get(PATIENCE)
        assert sum(result.get(PATIENCE) for result in waiting) == count * (count - 1)
