"""To sleep and be woken costs 50 µs, to take a lock 2: who contends must not be woken for nothing.

Counted by the kernel: how often a process gave its core up to wait (`ru_nvcsw`).
"""

import resource
from collections.abc import Callable
from typing import Any

import pytest

from procoro import Barrier, BoundedSemaphore, JoinableQueue, Lock, RLock, Semaphore
from tests.promises.forks import PATIENCE, Fork


def sleeps() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


def counting(function: Callable[..., object], *args: Any) -> int:
    before = sleeps()
    function(*args)
    return sleeps() - before


def use(lock: Any, start: Barrier, times: int) -> int:
    start.wait(PATIENCE)

    def take_and_release() -> None:
        for _ in range(times):
            with lock:
                pass

    return counting(take_and_release)


@pytest.mark.parametrize("make", [Lock, RLock, Semaphore, BoundedSemaphore, lambda: Semaphore(2)])
@pytest.mark.parametrize("processes", [2, 4])
def test_for_what_is_held_for_microseconds(make: Any, processes: int, fork: Fork) -> None:
    lock, start = make(), Barrier(processes)
    children = [fork(use, lock, start, 1000) for _ in range(processes)]
    assert sum(child.result() for child in children) < 500 * processes


def test_while_it_waits_at_a_barrier(fork: Fork) -> None:
    barrier, turns = Barrier(2), 300

    def meet() -> None:
        for _ in range(turns):
            barrier.wait(PATIENCE)

    children = [fork(counting, meet) for _ in range(2)]
    assert sum(child.result() for child in children) < 10 * turns


def test_while_it_waits_for_the_last_item(fork: Fork) -> None:
    queue: JoinableQueue[int] = JoinableQueue()
    items = 2000

    def consume() -> None:
        for _ in range(items):
            queue.get()
            queue.task_done()

    def produce_and_join() -> None:
        for item in range(items):
            queue.put(item)
        queue.join()

    consumer = fork(counting, consume)
    assert counting(produce_and_join) + consumer.result() < items / 2
