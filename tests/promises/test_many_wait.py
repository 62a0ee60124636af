"""Hundreds of one process wait for the same: they are served in the order in which they came, one at a time, and hold
next to no descriptor."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from procoro import Barrier, BoundedSemaphore, Condition, Event, Lock, Queue, RLock, Semaphore
from procoro.ipc.line import Lines, Place
from procoro.ipc.mutex import Mutex
from procoro.ipc.waiting import wait
from tests.gate import Gate
from tests.promises import shares
from tests.promises.conftest import Script
from tests.promises.forks import PATIENCE, Fork
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


@pytest.mark.parametrize("closed", [False, True])
def test_one_in_a_loop_that_does_not_run_holds_nobody_up(closed: bool) -> None:
    lock, stopped, queue = Lock(), asyncio.new_event_loop(), Queue[int]()
    assert lock.acquire()
    waiting = [stopped.create_task(lock.aacquire()), stopped.create_task(queue.aget())]
    stopped.run_until_complete(asyncio.sleep(0.01))
    if closed:
        stopped.close()
    lock.release()
    queue.put(1)
    assert lock.acquire(timeout=0) and queue.get(timeout=0) == 1
    lock.release()
    assert asyncio.run(lock.aacquire(0))
    lock.release()
    if not closed:
        queue.put(2)
        assert stopped.run_until_complete(asyncio.gather(*waiting)) == [True, 2]
        lock.release()
        stopped.close()
    for task in waiting:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["acquire", "get"])
def test_a_timeout_is_not_held_up_by_a_loop_that_is_busy(method: str) -> None:
    lock, queue, waits, over = Lock(), Queue[int](), threading.Event(), threading.Event()
    lock.acquire()

    async def main() -> None:
        tasks = [asyncio.create_task(lock.aacquire()), asyncio.create_task(queue.aget())]
        await asyncio.sleep(0.01)
        waits.set()
        over.wait(PATIENCE)  # blocks it
        for task in tasks:
            task.cancel()

    blocked = threading.Thread(target=asyncio.run, args=(main(),))
    blocked.start()
    waits.wait(PATIENCE)
    release = threading.Timer(0.1, lock.release if method == "acquire" else lambda: queue.put(1))
    release.start()
    assert lock.acquire(timeout=0.5) if method == "acquire" else queue.get(timeout=0.5) == 1
    over.set()
    blocked.join(PATIENCE)
    release.join(PATIENCE)


def test_who_waits_for_seconds_waits_in_the_line(fork: Fork, gate: Gate) -> None:
    """What a sleeper does after a while, to look by itself, costs the others nothing."""
    lock, order = Lock(), []
    child = fork(shares.hold, lock, gate)
    gate.reached()

    async def take(number: int) -> None:
        async with lock:
            order.append(number)

    async def main() -> None:
        before = descriptors()
        tasks = [asyncio.create_task(take(number)) for number in range(MANY)]
        await asyncio.sleep(2.5)
        assert descriptors() - before < 5
        gate.open()
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)

    asyncio.run(main())
    assert order == list(range(MANY))
    child.result()


def test_a_try_of_another_thread_puts_nobody_to_sleep(fork: Fork, gate: Gate) -> None:
    """While it tries, it looks as if this process had the lock."""
    lock = Lock()
    child = fork(shares.hold, lock, gate)
    gate.reached()
    over = threading.Event()

    def try_again_and_again() -> None:
        while not over.is_set():
            assert not lock.acquire(block=False)

    tries = threading.Thread(target=try_again_and_again)
    tries.start()
    took = []

    async def take() -> None:
        async with lock:
            over.set()
            began = took.pop()
            took.append(time.monotonic() - began)

    async def main() -> None:
        task = asyncio.create_task(take())
        await asyncio.sleep(0.3)
        took.append(time.monotonic())
        over.set()
        tries.join(PATIENCE)
        gate.open()
        await task

    asyncio.run(main())
    child.result()
    assert took[0] < 0.5


@pytest.mark.parametrize("run", [asyncio.run])
def test_a_signal_handler_wakes_the_loop(run: Run[None]) -> None:
    lock = Lock()

    async def main() -> None:
        lock.acquire()
        signal.signal(signal.SIGUSR1, lambda *_: lock.release())
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        began = time.monotonic()
        assert await lock.aacquire()
        assert time.monotonic() - began < 0.6

    try:
        run(main())
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_one_whose_frame_is_gone_holds_nobody_up() -> None:
    """An exception of a signal handler may hit it between two steps."""
    lines = Lines()

    async def main() -> None:
        gone, next_one = Place(lines, None), Place(lines, None)
        await gone.asleep()
        task = asyncio.create_task(wait(next_one.coming_first()))
        await asyncio.sleep(0.01)
        assert not task.done()
        del gone
        await asyncio.wait_for(task, 0.5)
        next_one.__exit__()

    asyncio.run(main())
    assert not lines


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


@every_loop
@every_lock
def test_a_task_that_takes_it_again_by_aacquire_stands_in_line(make: Any, run: Run[None]) -> None:
    lock, order = make(), []

    async def take(number: int) -> None:
        for turn in range(3):
            await lock.aacquire()
            order.append((turn, number))
            await asyncio.sleep(0)
            lock.release()

    async def main() -> None:
        await asyncio.gather(*(take(number) for number in range(5)))

    run(main())
    assert order == sorted(order)
