"""Waits whose turn is over, which are interrupted, copied by a fork, or whose process dies in between."""

import asyncio
import os
import subprocess
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from procoro import Barrier, Condition, Event, JoinableQueue, Lock, Queue
from procoro.ipc import shared
from tests.promises.conftest import Script
from tests.promises.forks import PATIENCE, Cells, Fork, asleep
from tests.promises.looks import wait_until
from tests.promises.waits import Run, every_loop

# ------------------------------------------------------------------------------------------------------ events


def test_an_event_that_is_set_for_a_moment_wakes_who_waits(fork: Fork) -> None:
    event = Event()
    child = fork(event.wait, PATIENCE)
    asleep(child)
    child.stop()
    event.set()
    event.clear()
    child.go_on()
    assert child.result() is True and not event.is_set()


# ------------------------------------------------------------------------------------------- signal handlers

# Alarms whose handler raises, again and again, while something is done; what then must still be possible
STORM = """
    import os, random, signal, sys, time
    from procoro import Condition, Process, RLock, Semaphore

    def touch(condition):
        with condition: pass

    armed = False
    def ring(*_):
        global armed
        if armed:
            armed = False
            raise TimeoutError

    def interrupt(do, times):
        global armed
        for _ in range(times):
            try:
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, 0.002))
                    while True:
                        do()
                finally:
                    armed = False
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except TimeoutError:
                yield

    signal.signal(signal.SIGALRM, ring)
"""


@pytest.mark.parametrize("made", ["RLock()", "Semaphore(10**6)"])
def test_a_handler_that_raises_locks_nobody_out(made: str, script: Script) -> None:
    """Also where it is called as the lock is just being let go."""
    code = (
        STORM
        + f"""
    lock = {made}

    def use():
        with lock: pass

    for _ in interrupt(use, 500):
        assert lock.acquire(timeout=10), "nobody could let it go any more"
        lock.release()
    """
    )
    assert script(code) == ""


def test_a_handler_that_raises_leaves_no_wait_behind(script: Script) -> None:
    code = (
        STORM
        + """
    condition = Condition()
    other = Process(target=touch, args=(condition,))
    other.start()
    other.join()

    def wait():
        with condition: condition.wait(0.0003)

    for _ in interrupt(wait, 1000):
        assert not list(condition._table.entries()), "it would swallow a notification"
        while condition._inner._mutex.held: condition.release()  # it came as that was let go
    """
    )
    assert script(code) == ""


# -------------------------------------------------------------------------------------------------- conditions


def waits(condition: Condition, cells: Cells, place: int) -> bool:
    with condition:
        cells[place] = 1
        return condition.wait(PATIENCE)


def test_the_notification_of_one_who_is_killed_goes_to_another(fork: Fork) -> None:
    condition, cells = Condition(), Cells()
    first = fork(waits, condition, cells, 0)
    cells.wait(0)
    second = fork(waits, condition, cells, 1)
    cells.wait(1)
    with condition:
        first.stop()
        condition.notify()  # it is alive
    first.kill()
    assert second.result() is True
    assert not list(condition._table.entries()) and not condition._words[condition._NOTIFIEDS]


def test_notifications_go_round() -> None:
    """To who has waited longest, as in `threading`: nobody is passed over again and again."""
    condition, order, ends = Condition(), [], []

    def consume(name: int) -> None:
        with condition:
            while True:
                condition.wait(PATIENCE)
                if ends:
                    return
                order.append(name)

    def waiting_now() -> int:
        return len(list(condition._table.entries()))

    threads = [threading.Thread(target=consume, args=(name,)) for name in range(3)]
    for count, thread in enumerate(threads, 1):
        thread.start()
        wait_until(lambda count=count: waiting_now() == count, "it waits")
    for count in range(9):
        with condition:
            condition.notify()
        wait_until(
            lambda count=count: len(order) > count and len(list(condition._table.entries())) == 3, "it waits again"
        )
    with condition:
        ends.append(True)
        condition.notify_all()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == [0, 1, 2] * 3


def end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        with suppress(BaseException):  # NotHeld, of who leaves the block of a lock that is its parent's
            task.get_coro().close()  # type: ignore[union-attr]
    shared._end_well()


@every_loop
def test_a_fork_undoes_no_wait_of_its_parent(run: Run[None], fork: Fork) -> None:
    """In the child, the copies of its tasks are cancelled."""
    condition, barrier = Condition(), Barrier(2)

    async def notified() -> bool:
        async with condition:
            return await condition.await_(PATIENCE)

    async def main() -> None:
        waiting = asyncio.create_task(notified())
        coming = asyncio.create_task(barrier.await_(PATIENCE))
        while not (list(condition._table.entries()) and barrier.n_waiting):
            await asyncio.sleep(0)
        fork(end, waiting, coming).result()
        async with condition:
            condition.notify_all()
        assert await waiting is True
        assert {await barrier.await_(PATIENCE), await coming} == {0, 1}

    run(main())


# ---------------------------------------------------------------------------------------------------- barriers


@every_loop
@pytest.mark.parametrize("end", ["opens", "reset"])
def test_who_is_cancelled_when_its_turn_is_over_breaks_nothing(end: str, run: Run[None]) -> None:
    barrier = Barrier(2)

    async def main() -> None:
        waiting = asyncio.create_task(barrier.await_(PATIENCE))
        while not barrier.n_waiting:
            await asyncio.sleep(0)
        if end == "opens":
            await barrier.await_(PATIENCE)
        else:
            barrier.reset()
        waiting.cancel()
        with pytest.raises((asyncio.CancelledError, threading.BrokenBarrierError)):
            await waiting
        assert not barrier.broken
        assert len(list(barrier._table.entries())) == 1, "this process holds it"

    run(main())


def reaches(barrier: Barrier) -> int:
    return barrier.wait(PATIENCE)


def test_a_barrier_is_whole_when_it_was_reset_after_a_death(fork: Fork) -> None:
    barrier = Barrier(2)
    dead = fork(reaches, barrier)
    asleep(dead)
    dead.kill()
    barrier.reset()
    assert {child.result() for child in [fork(reaches, barrier) for _ in range(2)]} == {0, 1}


def test_a_child_that_becomes_another_program_is_no_party(fork: Fork) -> None:
    barrier = Barrier(2)
    waiting = fork(reaches, barrier)
    asleep(waiting)
    subprocess.run(["true"], preexec_fn=lambda: None, check=True)
    with pytest.raises(AssertionError, match="has not ended"):
        waiting.result(2.5)  # it looks about its neighbours each second
    assert {barrier.wait(PATIENCE), waiting.result()} == {0, 1}


@pytest.mark.parametrize("how", ["fork", "preexec_fn"])
def test_a_barriers_action_may_wait_for_a_child(how: str, fork: Fork) -> None:
    def act() -> None:
        if how == "preexec_fn":
            subprocess.run(["true"], preexec_fn=lambda: None, check=True)
        elif (child := os.fork()) == 0:
            os._exit(0)
        else:
            os.waitpid(child, 0)

    barrier = Barrier(2, act)
    assert {child.result() for child in [fork(reaches, barrier) for _ in range(2)]} == {0, 1}


def test_what_threads_alone_use_is_not_abandoned_when_a_program_was_started() -> None:
    queue: Queue[str] = Queue()
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(queue.get()))
    thread.start()
    subprocess.run(["true"], preexec_fn=lambda: None, check=True)
    time.sleep(1.5)  # who waits looks about each second
    queue.put("item")
    thread.join(PATIENCE)
    assert got == ["item"]


def test_a_barriers_action_may_reset_it() -> None:
    barrier = Barrier(1, lambda: barrier.reset())
    assert [barrier.wait(), barrier.wait()] == [0, 0]


def test_ctrl_c_twice_ends_a_wait_while_another_is_in_the_action(script: Script) -> None:
    printed = script(
        """
        import os, signal, threading, time
        from procoro import Barrier

        main = os.getpid()
        in_action, told = os.pipe()
        barrier = Barrier(2, lambda: os.write(told, b"x") and time.sleep(60))
        child = os.fork()
        if not child:
            time.sleep(0.5)
            barrier.wait()

        def interrupt():
            os.read(in_action, 1)
            while not over:
                os.kill(main, signal.SIGINT)
                time.sleep(0.2)

        over = []
        threading.Thread(target=interrupt).start()
        try:
            barrier.wait()
        except KeyboardInterrupt:
            over.append(True)
            print("interrupted")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        """
    )
    assert printed == "interrupted\n"


def test_workers_that_end_well_break_no_barrier(script: Script) -> None:
    """Also if it is a global, which they hold as long as they live."""
    printed = script(
        """
        from procoro import Barrier, Pool

        barrier = Barrier(2)

        def come():
            return barrier.wait(20)

        for _ in range(3):
            pool = Pool(2)
            print(sorted(call.get() for call in [pool.submit(come), pool.submit(come)]), barrier.broken)
            pool.close()
            pool.join()
        """
    )
    assert printed == "[0, 1] False\n" * 3


# -------------------------------------------------------------------------------------- what must be done is done


def test_a_greenlet_killed_while_it_gives_a_permit_back_gives_it_back(script: Script) -> None:
    """So does one that is killed in `task_done`."""
    printed = script(
        """
        import os
        import time
        import gevent
        from procoro import JoinableQueue, Semaphore

        def held_for_a_moment(owner, name):
            ready, told = os.pipe()
            if not os.fork():
                mutex = getattr(owner, name)  # the child's own
                while not mutex.acquire_at_once():
                    pass
                os.write(told, b"x")
                time.sleep(0.5)
                mutex.release()
                os._exit(0)
            assert os.read(ready, 1)

        semaphore, queue = Semaphore(2), JoinableQueue()
        semaphore.acquire()
        queue.put("x")
        queue.get()
        for owner, name, finish in [(semaphore, "_mutex", semaphore.release), (queue, "_reader", queue.task_done)]:
            held_for_a_moment(owner, name)
            finishing = gevent.spawn(finish)
            gevent.sleep(0.1)
            assert not finishing.dead
            finishing.kill()
            os.wait()
        queue.join()
        print(semaphore.get_value())
        """
    )
    assert printed == "2\n"


def test_who_is_done_for_another_is_not_mourned(fork: Fork) -> None:
    queue: JoinableQueue[int] = JoinableQueue()
    for number in range(3):
        queue.put(number)
    fork(lambda: [queue.get(), queue.get()]).result()
    for _ in range(2):
        queue.task_done()
    fork(lambda: [queue.get(), queue.task_done()]).result()
    queue.join()


def test_nobody_who_lives_is_said_to_have_died(fork: Fork) -> None:
    """When a second process takes a lock for the first time, and the first takes it all the time."""
    for _ in range(100):
        lock, cells = Lock(), Cells()
        with lock:
            pass

        def take(lock: Lock = lock, cells: Cells = cells) -> Any:
            cells[0] = 1
            with lock:
                return lock.owner_died

        child = fork(take)
        while not cells[0]:
            with lock:
                pass
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            with lock:
                pass
        assert child.result() is None
