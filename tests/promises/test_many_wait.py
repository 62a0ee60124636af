"""Hundreds of one process wait for the same: they are served in the order in which they came, one at a time, and hold
next to no descriptor."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from procoro import Barrier, BoundedSemaphore, Condition, Event, Lock, Queue, RLock, Semaphore
from procoro.ipc.mutex import Mutex
from tests.promises.conftest import Script
from tests.promises.forks import PATIENCE, Fork
from tests.promises.looks import wait_until
from tests.promises.waits import Run, every_loop

MANY = 300
every_lock = pytest.mark.parametrize("make", [Lock, RLock, Semaphore, BoundedSemaphore, Condition])


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def to_take(lock: Any) -> tuple[Callable[[], Coroutine[Any, Any, Any]], Callable[[], object]]:
    async def take() -> None:
        async with lock:
            pass

    assert lock.acquire()
    return take, lock.release


def to_get() -> tuple[Callable[[], Coroutine[Any, Any, Any]], Callable[[], object]]:
    queue: Queue[int] = Queue()
    return queue.aget, lambda: [queue.put(i) for i in range(MANY)]


def to_put() -> tuple[Callable[[], Coroutine[Any, Any, Any]], Callable[[], object]]:
    queue: Queue[int] = Queue(1)
    queue.put(0)
    return lambda: queue.aput(1), lambda: threading.Thread(target=lambda: [queue.get() for _ in range(MANY)]).start()


def to_see() -> tuple[Callable[[], Coroutine[Any, Any, Any]], Callable[[], object]]:
    event = Event()
    return event.await_, event.set


def to_be_told() -> tuple[Callable[[], Coroutine[Any, Any, Any]], Callable[[], object]]:
    condition = Condition()

    async def wait() -> None:
        async with condition:
            await condition.await_()

    def tell() -> None:
        with condition:
            condition.notify_all()

    return wait, tell


def to_meet() -> tuple[Callable[[], Coroutine[Any, Any, Any]], Callable[[], object]]:
    barrier = Barrier(MANY + 1)
    return barrier.await_, lambda: threading.Thread(target=barrier.wait).start()


@every_loop
@pytest.mark.parametrize(
    "what",
    [
        *[lambda make=make: to_take(make()) for make in (Lock, RLock, Semaphore)],
        to_get,
        to_put,
        to_see,
        to_be_told,
        to_meet,
    ],
    ids=["Lock", "RLock", "Semaphore", "get", "put", "Event", "Condition", "Barrier"],
)
def test_hundreds_of_tasks_hold_next_to_no_descriptor(what: Any, run: Run[None]) -> None:
    async def main() -> None:
        wait, end = what()
        await asyncio.sleep(0)
        before = descriptors()
        tasks = [asyncio.create_task(wait()) for _ in range(MANY)]
        for _ in range(20):
            await asyncio.sleep(0.002)
        assert descriptors() - before < 5 and not any(task.done() for task in tasks)
        end()
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)

    run(main())


@every_loop
@every_lock
def test_tasks_have_it_in_the_order_in_which_they_came(make: Any, run: Run[None], fork: Fork) -> None:
    lock, order = make(), []

    async def take(number: int) -> None:
        for turn in range(3):
            async with lock:
                order.append((turn, number))
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(take(number) for number in range(20)))

    run(main())
    assert order == sorted(order)
    fork(lock.acquire).result()  # so does another process use it
    order.clear()
    run(main())
    assert order == sorted(order)


@every_lock
def test_greenlets_have_it_in_the_order_in_which_they_came(make: Any, script: Script) -> None:
    said = script(
        f"""
        import gevent
        from procoro import {make.__name__}
        lock, order = {make.__name__}(), []

        def take(number):
            for turn in range(3):
                with lock:
                    order.append((turn, number))
                    gevent.sleep(0)

        gevent.joinall([gevent.spawn(take, number) for number in range(20)], raise_error=True)
        print(order == sorted(order))
        """
    )
    assert said == "True\n"


def test_a_turn_costs_few_looks(monkeypatch: Any) -> None:
    """Not one of each who waits."""
    lock, looks = Lock(), [0]
    look = Mutex.acquire_at_once

    def counted(mutex: Mutex) -> bool:
        looks[0] += 1
        return look(mutex)

    async def take() -> None:
        async with lock:
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(take() for _ in range(MANY)))

    monkeypatch.setattr(Mutex, "acquire_at_once", counted)
    asyncio.run(main())
    assert looks[0] < 5 * MANY


@every_loop
@every_lock
@pytest.mark.parametrize("who", [0, 1, 4])
@pytest.mark.parametrize("how", ["cancelled", "late"])
def test_one_who_leaves_the_line_holds_nobody_up(make: Any, who: int, how: str, run: Run[None]) -> None:
    lock, had = make(), []

    async def take(number: int) -> None:
        if await lock.aacquire(0.01 if how == "late" and number == who else PATIENCE):
            had.append(number)
            await asyncio.sleep(0)
            lock.release()

    async def main() -> None:
        assert lock.acquire()
        tasks = [asyncio.create_task(take(number)) for number in range(5)]
        await asyncio.sleep(0)
        if how == "cancelled":
            tasks[who].cancel()
        await asyncio.wait([tasks[who]])
        lock.release()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)

    run(main())
    assert had == [number for number in range(5) if number != who]


def test_one_in_a_loop_that_has_stopped_holds_nobody_up_for_long() -> None:
    lock, stopped = Lock(), asyncio.new_event_loop()
    assert lock.acquire()
    first = stopped.create_task(lock.aacquire())
    stopped.run_until_complete(asyncio.sleep(0.01))
    others = [threading.Thread(target=lambda: lock.acquire() and lock.release()) for _ in range(3)]
    for other in others:
        other.start()
    wait_until(lambda: len(lock._line) == 4, "all wait")
    lock.release()
    for other in others:
        other.join(PATIENCE)
        assert not other.is_alive()
    assert stopped.run_until_complete(first)
    stopped.close()


def test_an_rlock_is_taken_again_while_others_wait() -> None:
    lock = RLock()

    async def take() -> None:
        async with lock:
            pass

    async def main() -> None:
        async with lock:
            others = [asyncio.create_task(take()) for _ in range(3)]
            await asyncio.sleep(0.01)
            async with lock:
                assert await lock.aacquire(0)
                lock.release()
        await asyncio.gather(*others)

    asyncio.run(main())
