"""Locks between processes: as `multiprocessing` has them, opened by a death, owned, awaitable, sent anywhere."""

import asyncio
import gc
import multiprocessing
import os
import pickle
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from procoro import Barrier, BoundedSemaphore, Condition, Event, Lock, Pool, RLock, Semaphore
from procoro.errors import NotHeld, ProcoroError
from procoro.ipc import shared
from procoro.ipc.line import Lines, Place
from procoro.ipc.waiting import LOOK, Sleeper
from tests.gate import Gate
from tests.promises import shares
from tests.promises.conftest import Script
from tests.promises.forks import PATIENCE, Cells, Fork, asleep
from tests.promises.looks import kill, wait_until
from tests.promises.waits import GREENLETS, Run, every_loop, meanwhile

LOCKS: list[Any] = [Lock, RLock, Semaphore, BoundedSemaphore]
EVERYTHING: list[Any] = [*LOCKS, Event, Condition, lambda: Condition(Lock()), lambda: Barrier(1)]
NAMES = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Event", "Condition", "Condition(Lock)", "Barrier"]
BROKEN = threading.BrokenBarrierError

every_lock = pytest.mark.parametrize("kind", LOCKS)
everything = pytest.mark.parametrize("kind", EVERYTHING, ids=NAMES)


def use(one: Any) -> None:
    """What can be done with one without anybody else."""
    if isinstance(one, Event):
        one.set()
        assert one.wait() and one.is_set()
        one.clear()
    elif isinstance(one, Barrier):
        assert one.wait() == 0
    else:
        with one:
            pass
        assert one.acquire(timeout=0.001)
        one.release()


# -------------------------------------------------------------------------------------------- only one has it


def add(lock: Any, cells: Cells, times: int) -> None:
    for _ in range(times):
        with lock:
            before = cells[0]
            time.sleep(0)
            cells[0] = before + 1


async def aadd(lock: Any, cells: Cells, times: int) -> None:
    for _ in range(times):
        async with lock:
            before = cells[0]
            await asyncio.sleep(0)
            cells[0] = before + 1


def add_in_threads(lock: Any, cells: Cells, threads: int, times: int) -> None:
    running = [threading.Thread(target=add, args=(lock, cells, times)) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


async def add_in_tasks(lock: Any, cells: Cells, tasks: int, times: int) -> None:
    await asyncio.gather(*(aadd(lock, cells, times) for _ in range(tasks)))


def add_in_both(lock: Any, cells: Cells) -> None:
    blocking = threading.Thread(target=add, args=(lock, cells, 100))
    blocking.start()
    asyncio.run(add_in_tasks(lock, cells, 2, 50))
    blocking.join()


@every_lock
def test_processes_exclude_each_other(kind: Any, fork: Fork) -> None:
    lock, cells = kind(), Cells()
    for child in [fork(add, lock, cells, 250) for _ in range(4)]:
        child.result()
    assert cells[0] == 1000


@every_lock
def test_threads_exclude_each_other(kind: Any) -> None:
    cells = Cells()
    add_in_threads(kind(), cells, 4, 300)
    assert cells[0] == 1200


@every_loop
@every_lock
def test_tasks_exclude_each_other(kind: Any, run: Run[None]) -> None:
    cells = Cells()
    run(add_in_tasks(kind(), cells, 5, 50))
    assert cells[0] == 250


@every_lock
def test_threads_and_tasks_of_several_processes_exclude_each_other(kind: Any, fork: Fork) -> None:
    lock, cells = kind(), Cells()
    for child in [fork(add_in_both, lock, cells) for _ in range(3)]:
        child.result()
    assert cells[0] == 600


@every_lock
def test_what_acquire_answers(kind: Any, fork: Fork, gate: Gate) -> None:
    lock = kind()
    assert lock.acquire() is True
    lock.release()
    child = fork(shares.hold, lock, gate)
    gate.reached()
    began = time.monotonic()
    assert lock.acquire(False) is False
    assert lock.acquire(block=False) is False
    assert lock.acquire(timeout=0) is False
    assert lock.acquire(True, -1) is False, "as in multiprocessing: not at all"
    assert lock.acquire(True, 0.1) is False
    assert lock.acquire(timeout=0.1) is False
    assert asyncio.run(lock.aacquire(timeout=0.1)) is False
    assert time.monotonic() - began >= 0.3
    gate.open()
    assert lock.acquire(timeout=PATIENCE) is True
    child.result()
    assert fork(shares.take, lock).result() is False
    lock.release()
    assert fork(shares.take, lock).result() is True


@every_lock
def test_a_timeout_is_kept_while_others_hand_it_on(kind: Any, fork: Fork) -> None:
    """The lock is free again and again, and never for us for long: whatever comes first, it is answered."""
    lock, cells = kind(), Cells()

    def hog() -> None:
        while not cells[0]:
            with lock:
                time.sleep(0.001)

    hogs = [fork(hog) for _ in range(2)]
    answers = []
    for _ in range(20):
        answers.append(lock.acquire(timeout=0.01))
        if answers[-1]:
            lock.release()
    cells[0] = 1
    assert {type(answer) for answer in answers} == {bool}
    for child in hogs:
        child.result()
    assert shares.take(lock)


def test_with_says_that_it_is_held() -> None:
    for kind in LOCKS:
        with kind() as held:
            assert held is True


@every_lock
def test_who_waits_is_woken(kind: Any, fork: Fork) -> None:
    lock, cells = kind(), Cells()

    def wait(place: int) -> None:
        with lock:
            cells[0] += 1

    lock.acquire()
    waiting = [fork(wait, place) for place in range(3)]
    for child in waiting:
        asleep(child)
    assert cells[0] == 0
    lock.release()
    for child in waiting:
        child.result()
    assert cells[0] == 3


# -------------------------------------------------------------------------------------------------- whose it is


@pytest.mark.parametrize("kind", [Lock, RLock, BoundedSemaphore])
def test_what_is_not_held_cannot_be_released(kind: Any, fork: Fork, gate: Gate) -> None:
    lock = kind()
    for error in (NotHeld, ProcoroError, ValueError, RuntimeError, AssertionError):
        with pytest.raises(error, match="hold"):
            lock.release()
    holder = fork(shares.hold, lock, gate)
    gate.reached()
    with pytest.raises(NotHeld):
        lock.release()
    assert not lock.acquire(False), "it is still its holder's"
    gate.open()
    holder.result()
    with lock:
        pass
    with pytest.raises(NotHeld):
        lock.release()


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_a_lock_is_locked_also_when_another_has_tried_in_vain(kind: Any, fork: Fork) -> None:
    lock = kind()
    lock.acquire()
    lock.release()
    with lock:
        assert fork(lambda: (lock.locked(), lock.acquire(block=False), lock.locked())).result() == (True, False, True)
    assert not lock.locked()


@pytest.mark.parametrize("kind", [Lock, RLock, BoundedSemaphore])
def test_a_child_does_not_hold_what_its_parent_holds(kind: Any, fork: Fork) -> None:
    lock = kind()

    def try_it() -> bool:
        with pytest.raises(NotHeld):
            lock.release()
        return bool(lock.acquire(False))

    with lock:
        assert fork(try_it).result() is False
        assert fork(shares.take, lock).result() is False, "and the end of a child lets it not go"
    assert fork(shares.take, lock).result() is True


def test_a_lock_is_not_taken_twice() -> None:
    lock = Lock()
    with lock:
        assert not lock.acquire(False)
        assert not lock.acquire(timeout=0.01)


def test_a_lock_may_be_released_by_another_thread_of_its_process() -> None:
    lock = Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert shares.take(lock)


def test_an_rlock_is_taken_again_by_its_thread_only(fork: Fork) -> None:
    lock, seen = RLock(), []

    def other() -> None:
        seen.append(lock.acquire(False))
        with pytest.raises(NotHeld):
            lock.release()

    for depth in range(3):
        assert lock.acquire() is True, depth
    for _ in range(3):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert fork(shares.take, lock).result() is False
        lock.release()
    assert seen == [False] * 3
    assert fork(shares.take, lock).result() is True


@every_loop
def test_an_rlock_is_taken_again_by_its_task_only(run: Run[None]) -> None:
    async def other(lock: RLock) -> bool:
        with pytest.raises(NotHeld):
            lock.release()
        return await lock.aacquire(timeout=0.01)

    async def main() -> None:
        lock = RLock()
        async with lock:
            async with lock:
                assert await asyncio.create_task(other(lock)) is False
            assert await asyncio.create_task(other(lock)) is False
        task = asyncio.create_task(lock.aacquire())
        assert await task is True
        assert not lock.acquire(False), "that task is over and has not let go"

    run(main())


def test_a_semaphore_has_so_many_permits(fork: Fork, gate: Gate) -> None:
    semaphore = Semaphore(3)
    holders = [fork(shares.hold, semaphore, gate) for _ in range(3)]
    for _ in holders:
        gate.reached()
    assert not semaphore.acquire(False)
    gate.open()
    assert semaphore.acquire(timeout=PATIENCE)
    assert not semaphore.acquire(False)
    gate.open(2)
    for child in holders:
        child.result()
    assert semaphore.acquire(False) and semaphore.acquire(False) and not semaphore.acquire(False)


def test_a_semaphore_may_be_released_by_anyone(fork: Fork) -> None:
    signals = Semaphore(0)
    assert not signals.acquire(False)
    fork(lambda: [signals.release() for _ in range(3)]).result()
    assert [signals.acquire(False) for _ in range(4)] == [True, True, True, False]


def test_who_releases_a_semaphore_takes_over_a_hold(fork: Fork, gate: Gate) -> None:
    """The permit that we gave back for the holder is not given back a second time when that dies."""
    semaphore = Semaphore(1)
    holder = fork(shares.hold, semaphore, gate)
    gate.reached()
    semaphore.release()
    holder.kill()
    assert semaphore.acquire(timeout=PATIENCE)
    assert not semaphore.acquire(timeout=0.05)


def test_who_releases_a_semaphore_takes_over_the_oldest_hold(fork: Fork, gate: Gate) -> None:
    semaphore = Semaphore(3)
    assert semaphore.acquire()  # an entry that the youngest will get
    old = fork(shares.hold, semaphore, gate)
    gate.reached()
    semaphore.release()
    young = fork(shares.hold, semaphore, gate)
    gate.reached()
    semaphore.release()  # we hold none
    old.kill()
    assert semaphore.get_value() == 2, "that of the old one was given back already"
    young.kill()
    assert semaphore.get_value() == 3


@pytest.mark.parametrize("timeout", ["1", [], True])
def test_a_time_that_is_none_is_refused_though_nobody_would_wait(timeout: Any) -> None:
    for call in (Lock().acquire, Event().wait, Semaphore().acquire, Barrier(1).wait):
        with pytest.raises(TypeError, match="timeout must be a number of seconds or None"):
            call(timeout=timeout)


def test_who_finds_a_dead_holder_wakes_who_sleeps_beside_its_permit(fork: Fork, monkeypatch: Any) -> None:
    """It had looked at the permits, and had not yet begun to watch their holders when one of these died."""
    semaphore, seen, go = Semaphore(1), Event(), Event()

    def wait() -> float:
        watch = Sleeper.watch

        def late(sleeper: Sleeper, pids: Any) -> bool:
            if not seen.is_set():
                seen.set()
                go.wait(PATIENCE)
                return watch(sleeper, {semaphore._table.pid(entry) for entry in semaphore._table.entries()})
            return watch(sleeper, pids)

        monkeypatch.setattr(Sleeper, "watch", late)
        assert semaphore.acquire(timeout=PATIENCE)
        return time.monotonic()

    holder = fork(lambda: semaphore.acquire() and time.sleep(PATIENCE))
    wait_until(lambda: semaphore.get_value() == 0, "it is held")
    waiting = fork(wait)
    assert seen.wait(PATIENCE)
    holder.kill()
    assert semaphore.get_value() == 1
    began = time.monotonic()
    go.set()
    assert waiting.result() - began < 0.8  # and not when it looks by itself, after 1 s


def test_a_bounded_semaphore_never_has_more_than_it_began_with() -> None:
    semaphore = BoundedSemaphore(2)
    assert semaphore.acquire() and semaphore.acquire() and not semaphore.acquire(False)
    semaphore.release()
    semaphore.release()
    with pytest.raises(NotHeld):
        semaphore.release()
    assert semaphore.acquire() and semaphore.acquire() and not semaphore.acquire(False)


# ------------------------------------------------------------------------------------------ the death of a holder


@every_lock
def test_a_death_opens_it(kind: Any, fork: Fork, gate: Gate) -> None:
    lock, cells = kind(), Cells()

    def wait() -> None:
        with lock:
            cells[0] += 1

    holder = fork(shares.hold, lock, gate)
    gate.reached()
    waiting = [fork(wait) for _ in range(2)]
    for child in waiting:
        asleep(child)
    holder.kill()
    for child in waiting:
        child.result()
    assert cells[0] == 2
    assert lock.acquire(timeout=PATIENCE)


@every_lock
def test_an_end_without_a_release_opens_it(kind: Any, fork: Fork) -> None:
    lock = kind()
    assert fork(lock.acquire).result() is True
    assert lock.acquire(timeout=PATIENCE)


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_the_next_holder_learns_of_the_death(kind: Any, fork: Fork, gate: Gate) -> None:
    lock = kind()
    assert lock.owner_died is None
    with lock:
        assert lock.owner_died is None
    holder = fork(shares.hold, lock, gate)
    gate.reached()
    holder.kill()
    with lock:
        assert lock.owner_died == holder.pid
        assert fork(lambda: lock.owner_died).result() is None, "only its holder is told"
    assert lock.owner_died is None
    with lock:
        assert lock.owner_died is None, "what was half changed is the business of the first who came"


def test_a_lock_taken_twice_is_free_after_one_death(fork: Fork) -> None:
    lock = RLock()
    fork(lambda: lock.acquire() and lock.acquire()).result()
    assert lock.acquire(timeout=PATIENCE)
    lock.release()
    assert fork(shares.take, lock).result() is True


def test_a_death_gives_back_its_own_permits_only(fork: Fork, gate: Gate) -> None:
    semaphore = Semaphore(4)

    def hold_two() -> None:
        with semaphore, semaphore:
            gate.pass_through()

    dying, living = fork(hold_two), fork(hold_two)
    gate.reached(), gate.reached()
    assert not semaphore.acquire(False)
    dying.kill()
    assert semaphore.acquire(timeout=PATIENCE) and semaphore.acquire(timeout=PATIENCE)
    assert not semaphore.acquire(timeout=0.05)
    gate.open(2)
    living.result()
    assert semaphore.acquire() and semaphore.acquire() and not semaphore.acquire(False)


# -------------------------------------------------------------------------------------------------- Event


def test_an_event_wakes_all_who_wait(fork: Fork) -> None:
    event = Event()
    assert not event.is_set() and event.wait(0) is False and event.wait(timeout=0.05) is False
    waiting = [fork(event.wait) for _ in range(3)]
    for child in waiting:
        asleep(child)
    event.set()
    assert [child.result() for child in waiting] == [True] * 3
    assert event.is_set() and event.wait() is True and fork(event.is_set).result() is True
    event.clear()
    assert not fork(event.is_set).result()


def test_an_event_outlives_who_set_it_and_who_waited(fork: Fork) -> None:
    event = Event()
    waiting = [fork(event.wait) for _ in range(2)]
    for child in waiting:
        asleep(child)
    waiting[0].kill()
    fork(event.set).result()
    assert waiting[1].result() is True
    assert event.wait(PATIENCE)


def test_an_event_goes_to_and_fro(fork: Fork) -> None:
    ping, pong = Event(), Event()

    def answer() -> None:
        for _ in range(200):
            ping.wait()
            ping.clear()
            pong.set()

    child = fork(answer)
    for _ in range(200):
        ping.set()
        assert pong.wait(PATIENCE)
        pong.clear()
    child.result()


# -------------------------------------------------------------------------------------------------- Condition

conditions = pytest.mark.parametrize("inner", [None, Lock, RLock], ids=["default", "Lock", "RLock"])


def condition_of(inner: Any) -> Condition:
    return Condition(None if inner is None else inner())


@conditions
def test_a_condition_wakes_as_many_as_it_notifies(inner: Any, fork: Fork) -> None:
    condition, cells = condition_of(inner), Cells()

    def wait() -> bool:
        with condition:
            cells[0] += 1
            told = condition.wait(PATIENCE)
            cells[1] += 1
            return told

    waiting = [fork(wait) for _ in range(4)]
    cells.wait(0, 4)
    with condition:
        condition.notify()
    cells.wait(1, 1)
    with condition:
        condition.notify(2)
        assert cells[1] == 1, "they need the lock"
    cells.wait(1, 3)
    with condition:
        condition.notify_all()
    assert [child.result() for child in waiting] == [True] * 4


@conditions
def test_a_wait_gives_up_in_time_and_has_the_lock_again(inner: Any, fork: Fork) -> None:
    condition = condition_of(inner)
    with condition:
        assert condition.wait(0.05) is False
        assert condition.wait(timeout=0) is False
        assert condition.wait_for(lambda: 0, timeout=0.05) == 0
        assert not fork(lambda: condition.acquire(False)).result()
    assert fork(lambda: condition.acquire(False)).result()


def test_a_wait_lets_go_of_an_rlock_however_often_it_is_held(fork: Fork) -> None:
    condition, cells = Condition(), Cells()

    def tell() -> None:
        with condition:
            cells[0] = 1
            condition.notify()

    with condition, condition, condition:
        child = fork(tell)
        assert condition.wait_for(lambda: cells[0], PATIENCE) == 1
        assert not fork(lambda: condition.acquire(False)).result()
    child.result()
    assert fork(lambda: condition.acquire(False)).result()


def test_who_was_notified_has_seen_what_was_changed(fork: Fork) -> None:
    """A bounded buffer of one, many times: no notification is lost, none is invented."""
    condition, cells = Condition(), Cells()

    def produce(count: int) -> None:
        for number in range(1, count + 1):
            with condition:
                condition.wait_for(lambda: not cells[0])
                cells[0] = number
                condition.notify_all()

    producers = [fork(produce, 100) for _ in range(2)]
    total = 0
    for _ in range(200):
        with condition:
            assert condition.wait_for(lambda: cells[0], PATIENCE)
            total, cells[0] = total + cells[0], 0
            condition.notify_all()
    for child in producers:
        child.result()
    assert total == 2 * sum(range(101))


def test_a_notification_does_not_go_to_the_dead(fork: Fork) -> None:
    condition, cells = Condition(), Cells()

    def wait(place: int) -> bool:
        with condition:
            cells[place] = 1
            return condition.wait(PATIENCE)

    first = fork(wait, 0)
    cells.wait(0)
    second = fork(wait, 1)
    cells.wait(1)
    with condition:
        pass
    first.kill()
    with condition:
        condition.notify()
    assert second.result() is True


def test_a_condition_is_held_by_who_waits_or_notifies(fork: Fork) -> None:
    for condition in (Condition(), Condition(Lock())):
        for what in (condition.wait, condition.notify, condition.notify_all, lambda c=condition: c.wait_for(bool)):
            with pytest.raises(RuntimeError, match="acquire"):
                what()
        with condition, pytest.raises(ValueError, match="n must be"):
            condition.notify(-1)


# -------------------------------------------------------------------------------------------------- Barrier


def test_a_barrier_opens_when_all_have_come_again_and_again(fork: Fork) -> None:
    barrier, cells = Barrier(3), Cells()

    def run(me: int) -> list[int]:
        numbers = []
        for turn in range(30):
            cells[me] = turn
            numbers.append(barrier.wait(PATIENCE))
            assert min(cells[0], cells[1], cells[2]) >= turn
        return numbers

    found = [child.result() for child in [fork(run, me) for me in range(3)]]
    assert all(sorted(turn) == [0, 1, 2] for turn in zip(*found, strict=True))
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)


def test_a_barrier_runs_its_action_once_a_turn(fork: Fork) -> None:
    cells = Cells()

    def act() -> None:
        cells[0] += 1

    barrier = Barrier(2, act)
    child = fork(lambda: [barrier.wait(PATIENCE) for _ in range(5)])
    for turn in range(5):
        barrier.wait(PATIENCE)
        assert cells[0] > turn
    child.result()
    assert cells[0] == 5


def waits(barrier: Barrier, timeout: float | None = PATIENCE) -> str:
    try:
        return str(barrier.wait(timeout))
    except BROKEN:
        return "broken"


def test_an_action_that_fails_breaks_the_barrier(fork: Fork) -> None:
    barrier = Barrier(2, lambda: 1 / 0)
    child = fork(waits, barrier)
    wait_until(lambda: barrier.n_waiting == 1, "one waits")
    with pytest.raises(ZeroDivisionError):
        barrier.wait()
    assert child.result() == "broken" and barrier.broken


def test_a_barrier_gives_up_in_time_for_all(fork: Fork) -> None:
    barrier = Barrier(3)
    child = fork(waits, barrier)
    wait_until(lambda: barrier.n_waiting == 1, "one waits")
    with pytest.raises(BROKEN):
        barrier.wait(0.05)
    assert child.result() == "broken"
    with pytest.raises(BROKEN):
        barrier.wait()
    with pytest.raises(BROKEN):
        Barrier(2, timeout=0.05).wait()


@pytest.mark.parametrize("method", ["abort", "reset"])
def test_a_barrier_is_aborted_and_reset(method: str, fork: Fork, gate: Gate) -> None:
    barrier = Barrier(2)

    def twice() -> str:
        first = waits(barrier)
        gate.pass_through()
        return first + " " + waits(barrier)

    child = fork(twice)
    wait_until(lambda: barrier.n_waiting == 1, "one waits")
    getattr(barrier, method)()
    gate.reached()
    assert barrier.broken is (method == "abort")
    barrier.reset()
    assert not barrier.broken
    gate.open()
    assert {waits(barrier), child.result()[len("broken ") :]} == {"0", "1"}


def test_who_ends_well_breaks_no_barrier() -> None:
    """Children of `multiprocessing` that have come once and gone: others take their place."""
    barrier = Barrier(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # we may have threads: the child needs none of them
        for _ in range(3):
            child = multiprocessing.get_context("fork").Process(target=waits, args=(barrier,))
            child.start()
            assert waits(barrier) in "01"
            child.join(PATIENCE)
            assert child.exitcode == 0
            child.close()
    assert not barrier.broken


def test_a_party_that_dies_waiting_breaks_the_barrier(fork: Fork) -> None:
    barrier = Barrier(3)
    children = [fork(waits, barrier) for _ in range(2)]
    wait_until(lambda: barrier.n_waiting == 2, "both wait")
    children[0].kill()
    assert children[1].result() == "broken"
    with pytest.raises(BROKEN):
        barrier.wait()


def test_who_waited_when_a_barrier_was_reset_does_not_go_through_with_those_who_come_then(fork: Fork) -> None:
    barrier = Barrier(2)
    late = fork(waits, barrier)
    asleep(late)
    late.stop()
    barrier.reset()
    assert {child.result() for child in [fork(waits, barrier) for _ in range(2)]} == {"0", "1"}
    late.go_on()
    assert late.result() == "broken"


def test_a_party_that_dies_elsewhere_breaks_the_barrier(fork: Fork, gate: Gate) -> None:
    """It never comes to the barrier at all, and yet nobody waits for it for ever."""
    barrier = Barrier(2)
    dying = fork(gate.pass_through)
    gate.reached()
    waiting = fork(waits, barrier, None)
    asleep(waiting)
    dying.kill()
    assert waiting.result() == "broken"


# -------------------------------------------------------------------------------------------------- awaiting


@every_loop
@every_lock
def test_the_loop_goes_on_while_a_task_waits_for_a_lock(kind: Any, run: Run[bool], fork: Fork, gate: Gate) -> None:
    lock = kind()
    holder = fork(shares.hold, lock, gate)
    gate.reached()
    assert run(meanwhile(lock.aacquire(), gate.open)) is True
    holder.result()


@every_loop
@every_lock
def test_a_death_wakes_who_awaits(kind: Any, run: Run[bool], fork: Fork, gate: Gate) -> None:
    lock = kind()
    holder = fork(shares.hold, lock, gate)
    gate.reached()

    async def enter() -> bool:
        async with lock as held:
            return bool(held)

    assert run(meanwhile(enter(), holder.kill)) is True


@every_loop
def test_event_condition_and_barrier_are_awaited(run: Run[None], fork: Fork, gate: Gate) -> None:
    event, condition, barrier, cells = Event(), Condition(), Barrier(2), Cells()

    def child() -> None:
        gate.pass_through()
        event.set()
        gate.pass_through()
        with condition:
            condition.notify()
        gate.pass_through()
        with condition:
            cells[0] = 7
            condition.notify()
        gate.pass_through()
        barrier.wait()

    async def wait() -> bool:
        async with condition:
            return await condition.await_(PATIENCE)

    async def wait_for() -> int:
        async with condition:
            return await condition.await_for(lambda: cells[0], PATIENCE)

    async def main() -> None:
        assert await event.await_(timeout=0.05) is False
        assert await meanwhile(event.await_(), gate.open) is True
        assert await meanwhile(wait(), gate.open) is True
        assert await meanwhile(wait_for(), gate.open) == 7
        assert await meanwhile(barrier.await_(), gate.open) in (0, 1)

    other = fork(child)
    gate.reached()
    run(main())
    other.result()


@every_loop
@every_lock
def test_a_task_that_is_cancelled_does_not_have_it(kind: Any, run: Run[None], fork: Fork, gate: Gate) -> None:
    lock = kind()
    holder = fork(shares.hold, lock, gate)
    gate.reached()

    async def main() -> None:
        tasks = [asyncio.create_task(lock.aacquire()) for _ in range(3)]
        await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        gate.open()
        assert all(
            isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*tasks, return_exceptions=True)
        )
        with pytest.raises(TimeoutError):
            async with lock:
                await asyncio.wait_for(_other(lock), 0.05)

    async def _other(lock: Any) -> None:
        # A task of its own: else an RLock would be taken a second time.
        await asyncio.create_task(lock.aacquire())

    run(main())
    holder.result()
    assert fork(lock.acquire, True, PATIENCE).result() is True


@every_loop
def test_cancelling_at_random_moments_loses_no_lock(run: Run[None], fork: Fork) -> None:
    """Whoever is told that it was cancelled does not hold it: in the end it is free."""
    lock, cells = Lock(), Cells()
    other = fork(add, lock, cells, 3000)

    async def once(turn: int) -> None:
        task = asyncio.create_task(lock.aacquire())
        for _ in range(turn % 7):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return
        lock.release()

    async def main() -> None:
        for turn in range(500):
            await once(turn)

    run(main())
    other.result()
    assert cells[0] == 3000
    assert fork(shares.take, lock).result() is True


def test_the_loops_of_several_threads_wait_for_one_lock(fork: Fork, gate: Gate) -> None:
    lock, cells = Lock(), Cells()
    holder = fork(shares.hold, lock, gate)
    gate.reached()
    threads = [threading.Thread(target=asyncio.run, args=(aadd(lock, cells, 20),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join()
    holder.result()
    assert cells[0] == 60


# -------------------------------------------------------------------------------------------------- greenlets


def test_other_greenlets_run_while_one_waits(script: Script) -> None:
    pytest.importorskip("gevent")
    out = script(
        GREENLETS
        + """
    from procoro import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

    def hold(lock):
        with lock:
            gate.pass_through()
        os._exit(0)

    for kind in (Lock, RLock, Semaphore, BoundedSemaphore, Condition):
        with Gate(kind.__name__) as gate:
            lock = kind()
            child = forked(lambda: hold(lock))
            gate.reached()
            assert meanwhile(lock.acquire, gate.open) is True
            os.waitpid(child, 0)
        print(kind.__name__)

    event, ours, barrier = Event(), Event(), Barrier(2)

    def tell():
        ours.wait()
        event.set()
        ours.clear()
        ours.wait()
        barrier.wait()

    child = forked(tell)
    assert meanwhile(event.wait, ours.set) is True
    while ours.is_set():
        gevent.sleep(0.001)
    assert meanwhile(barrier.wait, ours.set) in (0, 1)
    os.waitpid(child, 0)
    print("Event and Barrier")

    lock, count = Lock(), 0

    def add():
        global count
        for _ in range(50):
            with lock:
                before = count
                gevent.sleep(0)
                count = before + 1

    gevent.joinall([gevent.spawn(add) for _ in range(4)], raise_error=True)
    print(count)
    """
    )
    assert out.split("\n")[:5] == ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"]
    assert out.endswith("Event and Barrier\n200\n")


def test_an_rlock_is_taken_again_by_its_greenlet_only(script: Script) -> None:
    pytest.importorskip("gevent")
    out = script(
        GREENLETS
        + """
    from procoro import RLock
    lock = RLock()
    with lock, lock:
        print(gevent.spawn(lock.acquire, False).get(), gevent.spawn(lock.acquire, timeout=0.01).get())
    print(gevent.spawn(lock.acquire, False).get())
    """
    )
    assert out == "False False\nTrue\n"


# ------------------------------------------------------------------------------------------ threads and forks


def test_a_child_may_use_a_lock_that_threads_of_its_parent_use(fork: Fork) -> None:
    """Forked at any moment of a thread's acquire, wait or release, the child finds no lock stuck."""
    lock, cells, over = Lock(), Cells(), threading.Event()

    def use_it() -> None:
        while not over.is_set():
            with lock:
                cells[1] += 1

    threads = [threading.Thread(target=use_it) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            fork(add, lock, cells, 3).result()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert cells[0] == 150
    assert shares.take(lock)


def test_grandchildren(fork: Fork) -> None:
    lock, cells = Lock(), Cells()

    def deeper(depth: int) -> None:
        add(lock, cells, 50)
        if depth:
            child = os.fork()
            if child == 0:
                deeper(depth - 1)
                os._exit(0)
            add(lock, cells, 50)
            assert os.waitpid(child, 0)[1] == 0

    fork(deeper, 3).result()
    assert cells[0] == 4 * 50 + 3 * 50


def test_ctrl_c_ends_a_wait(script: Script) -> None:
    out = script(
        """
        import os, signal, threading, time
        from procoro import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

        gate_r, gate_w = os.pipe()
        locks = [Lock(), RLock(), Semaphore(), BoundedSemaphore(), Condition()]
        if (child := os.fork()) == 0:
            for lock in locks:
                lock.acquire()
            os.write(gate_w, b".")
            time.sleep(60)
        os.read(gate_r, 1)
        event, barrier, condition = Event(), Barrier(2), Condition()
        condition.acquire()
        for wait in [*(lock.acquire for lock in locks), event.wait, condition.wait, barrier.wait]:
            try:
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
                wait()
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        condition.release()
        os.kill(child, 9)
        for lock in locks:
            print(lock.acquire(timeout=10))
        """
    )
    assert out == "interrupted\n" * 8 + "True\n" * 5


# -------------------------------------------------------------------------------------------------- travelling


@every_lock
def test_it_is_sent_to_workers_that_run(kind: Any, gate: Gate, tmp_path: Path) -> None:
    with Pool(2) as pool:
        pool.submit(os.getpid).get()
        lock = kind()
        held = pool.submit(shares.hold, lock, gate)
        gate.reached()
        assert not lock.acquire(False)
        assert pool.apply(shares.take, (lock,)) is False
        gate.open()
        held.get(PATIENCE)
        assert pool.apply(shares.take, (lock,)) is True
        with lock:
            assert pool.map(shares.take, [lock] * 4) == [False] * 4
            assert pool.apply(shares.take_nested, ({"locks": {"first": lock, "more": (lock,)}},)) == (True, False)
        number = tmp_path / "number"
        number.write_bytes(bytes(8))
        for result in [pool.submit(shares.count, lock, str(number), 300) for _ in range(4)]:
            result.get(PATIENCE)
        assert int.from_bytes(number.read_bytes()) == 1200


@every_lock
def test_a_worker_that_dies_opens_it(kind: Any, gate: Gate) -> None:
    with Pool(1) as pool:
        lock = kind()
        held = pool.submit(shares.hold, lock, gate)
        os.kill(gate.reached(), 9)
        assert lock.acquire(timeout=PATIENCE)
        assert isinstance(held.exception(PATIENCE), ProcoroError)


def test_all_are_one_object_in_two_processes() -> None:
    event, condition, barrier = Event(), Condition(), Barrier(2)

    def work() -> str:
        event.wait()
        with condition:
            condition.notify()
        return str(barrier.wait(PATIENCE))

    with Pool(1) as pool:
        with condition:
            result = pool.submit(work)
            event.set()
            assert condition.wait(PATIENCE)
        assert {str(barrier.wait(PATIENCE)), result.get(PATIENCE)} == {"0", "1"}


def test_as_closures_globals_and_defaults(script: Script) -> None:
    out = script(
        """
        from procoro import Event, Lock, Pool

        lock = Lock()

        def with_global():
            return lock.acquire(False)

        def closure(lock):
            return lambda: lock.acquire(False)

        def with_default(x, lock=lock):
            return lock.acquire(False)

        with Pool(2) as pool:
            with lock:
                print(pool.apply(with_global), pool.apply(closure(lock)), pool.map(with_default, [1]))
            print(pool.apply(with_global))
        """
    )
    assert out == "False False [False]\nTrue\n"


@everything
def test_a_plain_pickle_is_refused_in_words(kind: Any) -> None:
    with pytest.raises(pickle.PicklingError, match="argument"):
        pickle.dumps(kind())


# -------------------------------------------------------------------------------------------------- misuse, leftovers


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_wrong_values(kind: Any) -> None:
    with pytest.raises(ValueError, match="value"):
        kind(-1)
    for value in ("1", 1.5, None):
        with pytest.raises(TypeError, match="value"):
            kind(value)


def test_wrong_arguments() -> None:
    wrong: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: Lock().acquire(timeout="1"), TypeError, "timeout"),  # type: ignore[arg-type]
        (lambda: Event().wait("1"), TypeError, "timeout"),  # type: ignore[arg-type]
        (lambda: Barrier(0), ValueError, "parties"),
        (lambda: Barrier("2"), TypeError, "parties"),  # type: ignore[arg-type]
        (lambda: Barrier(1, action=1), TypeError, "action"),  # type: ignore[arg-type]
        (lambda: Condition(threading.Lock()), TypeError, "lock"),  # type: ignore[arg-type]
    ]
    for call, error, words in wrong:
        with pytest.raises(error, match=words):
            call()


@everything
def test_200_come_and_go_and_nothing_stays(kind: Any) -> None:
    use(kind())
    before = shares.belongings()
    for _ in range(200):
        use(kind())
    assert shares.belongings() == before


def test_nothing_stays_in_a_worker_either() -> None:
    with Pool(1) as pool:
        for _ in range(20):
            pool.apply(shares.take, (Lock(),))
        here, there = shares.belongings(), pool.apply(shares.belongings)
        for _ in range(200):
            assert pool.apply(shares.take, (Lock(),))
        assert shares.belongings() == here
        assert pool.apply(shares.belongings) == there


@everything
def test_what_it_says_of_itself(kind: Any) -> None:
    one = kind()
    assert type(one).__name__ in repr(one)


# ------------------------------------------------------------------------------------------ what was broken once


@every_loop
def test_a_thousand_tasks_wait_for_one_event(run: Run) -> None:
    """The kernel lets 500 epolls on one descriptor be waited for, and uvloop ends the program beyond that."""

    async def main() -> list[bool]:
        event = Event()
        tasks = [asyncio.ensure_future(event.await_(PATIENCE)) for _ in range(1000)]
        for _ in range(5):
            await asyncio.sleep(0.01)
        event.set()
        return await asyncio.gather(*tasks)

    assert run(main()) == [True] * 1000


def test_a_thousand_greenlets_wait_for_one_event(script: Script) -> None:
    said = script(
        """
        from procoro import Event, spawn, joinall, sleep
        event = Event()
        greenlets = [spawn(event.wait, 20) for _ in range(1000)]
        sleep(0.1)
        event.set()
        joinall(greenlets)
        print(sum(greenlet.value for greenlet in greenlets))
        """
    )
    assert said == "1000\n"


@every_loop
def test_who_is_cancelled_while_it_takes_the_lock_again_has_it(run: Run) -> None:
    async def main() -> list[str]:
        condition, said = Condition(), []

        async def waits() -> None:
            async with condition:
                try:
                    await condition.await_()
                finally:
                    said.append("held" if condition._inner.locked() else "free")

        task = asyncio.ensure_future(waits())
        while not list(condition._table.entries()):
            await asyncio.sleep(0.001)
        async with condition:
            condition.notify_all()
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not list(condition._table.entries())
        return said

    assert run(main()) == ["held"]


def test_a_look_at_a_lock_does_not_swallow_a_death(fork: Fork) -> None:
    lock = Lock()
    child = fork(lambda: lock.acquire() and os.kill(os.getpid(), 9))
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not lock.locked() and not lock.locked()
    assert lock.acquire() and lock.owner_died == child.pid
    lock.release()


def test_a_barriers_action_may_look_at_it_and_break_it() -> None:
    seen: list[int] = []
    looking = Barrier(1, lambda: seen.append(looking.n_waiting))
    assert looking.wait() == 0 and seen == [0]
    breaking = Barrier(1, lambda: breaking.abort())
    with pytest.raises(BROKEN):
        breaking.wait()
    assert breaking.broken


def test_a_barrier_of_many() -> None:
    barrier, numbers = Barrier(200), []
    threads = [threading.Thread(target=lambda: numbers.append(barrier.wait())) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(numbers) == list(range(200))


def test_who_stands_in_a_line_looks_again_at_its_deadline() -> None:
    assert Place(Lines(), None)._seconds() == LOOK
    assert Place(Lines(), monotonic() + 1000)._seconds() == LOOK
    assert 0 < Place(Lines(), monotonic() + LOOK / 2)._seconds() <= LOOK / 2
    assert Place(Lines(), monotonic() - 1)._seconds() == 0


def test_who_has_dropped_a_barrier_may_die() -> None:
    """Only a process that holds it breaks it by its death."""
    barrier = Barrier(1)
    with Pool(1) as pool:
        pool.submit(id, barrier).get()
        kill(pool.submit(os.getpid).get())  # the call with the barrier is over, and so is what it held
        assert barrier.wait(20) == 0
    assert not barrier.broken


def test_a_child_for_which_no_descriptor_was_free_cannot_use_a_lock(script: Script) -> None:
    """It has no lock of its own, and must not take its parent's for that."""
    said = script(
        """
        import os, resource
        from procoro import Lock

        lock = Lock()
        with lock:
            pass
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        if not (child := os.fork()):
            try:
                os._exit(int(lock.acquire(block=False)))
            except (OSError, ValueError):
                os._exit(7)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), lock.acquire(block=False))
        """
    )
    assert said == "7 True\n"


@pytest.mark.parametrize("model", ["threads", "greenlets"])
def test_calls_beside_each_other_that_share_a_lock(model: str) -> None:
    """Its descriptors stay while any span is here that brings it."""
    lock = Lock()
    with Pool(1, model=model, concurrency=2) as pool:
        assert pool.starmap(shares.number_and_lock, [(lock, number) for number in range(2000)]) == list(range(2000))


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_what_a_dead_one_held_is_free_for_who_does_not_wait(kind: Any, fork: Fork, gate: Gate) -> None:
    semaphore = kind(1)
    holder = fork(shares.hold, semaphore, gate)
    gate.reached()
    assert not semaphore.acquire(block=False)
    holder.kill()
    assert semaphore.acquire(block=False)
    semaphore.release()


@every_loop
def test_a_party_that_is_cancelled_breaks_the_barrier(run: Run[None]) -> None:
    """As one that is interrupted by Ctrl-C: the others would wait for it."""
    barrier = Barrier(3)

    async def main() -> None:
        first, second = (asyncio.create_task(barrier.await_()) for _ in range(2))
        while barrier.n_waiting < 2:
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(threading.BrokenBarrierError):
            await asyncio.wait_for(second, 20)
        assert first.cancelled() and barrier.broken

    run(main())


@every_loop
def test_a_barriers_own_time_is_kept_by_tasks_too(run: Run[None]) -> None:
    barrier = Barrier(2, timeout=0.05)

    async def main() -> None:
        with pytest.raises(threading.BrokenBarrierError):
            await asyncio.wait_for(barrier.await_(), 20)

    run(main())


@every_loop
def test_the_notification_of_one_who_is_cancelled_goes_to_another(run: Run[None]) -> None:
    condition = Condition()

    async def waits() -> bool:
        async with condition:
            return await condition.await_(20)

    async def main() -> None:
        first, second = (asyncio.create_task(waits()) for _ in range(2))
        while len(list(condition._table.entries())) < 2:
            await asyncio.sleep(0)
        async with condition:
            condition.notify()  # the first: it came first
            first.cancel()
        assert await second is True
        assert first.cancelled()

    run(main())


def test_an_rlock_is_its_holders_also_when_greenlet_is_imported_meanwhile(script: Script) -> None:
    said = script(
        """
        from procoro import RLock

        lock = RLock()
        with lock:
            import greenlet
            with lock:
                print(greenlet.greenlet(lambda: lock.acquire(block=False)).switch())
        """
    )
    assert said == "False\n"


def test_what_is_dropped_while_another_thread_forks_leaves_nothing() -> None:
    """Its description for the child was never closed, and counted as a holder for ever."""
    lock = Lock()
    before = len(os.listdir("/proc/self/fd"))
    shared._before()
    del lock
    gc.collect()
    shared._in_parent()
    assert len(os.listdir("/proc/self/fd")) < before
