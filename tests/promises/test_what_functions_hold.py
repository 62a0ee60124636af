"""Functions, initializers and globals that hold locks, queues or much memory: they work, and go when they are needed
no more."""

import gc
import os
import signal
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from procoro import Event, JoinableQueue, Lock, Pipe, Pool, Process, Queue, Semaphore, SimpleQueue
from procoro.errors import NotPicklable
from tests.gate import Gate
from tests.promises import calls, shares
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE, all_idle, wait_until

MODELS: list[dict[str, Any]] = [{}, {"model": "threads"}, {"model": "greenlets"}]


def kept(pool: Pool) -> int:
    """Bytes of the file in which a pool's functions stand."""
    return os.fstat(pool._conductor.library.fd).st_blocks * 512


def goes_on(pool: Pool) -> bool:
    """Memory is given back when a stream ends."""
    return pool.apply(calls.double, (1,)) == 2


# ------------------------------------------------------------------------------------------- initializers


@pytest.mark.parametrize("model", MODELS)
def test_initargs_may_be_locks_queues_and_ends(model: dict[str, Any], gate: Gate) -> None:
    lock, queue, (here, there) = Lock(), Queue[int](), Pipe()
    given = {"lock": lock, "more": [queue, there, Semaphore(2), Event(), SimpleQueue(), JoinableQueue()]}
    with here, there, Pool(2, shares.keep, (given,), **model) as pool:
        with lock:
            assert pool.apply(shares.kept_is_free) is False
        assert pool.apply(shares.kept_is_free) is True
        for pid in all_idle(pool, gate, 2) if not model else []:
            os.kill(pid, signal.SIGKILL)
        assert pool.map(shares.put_into_kept, range(20)) == list(range(20)), "also in who comes after them"
        assert sorted(queue.get(timeout=PATIENCE) for _ in range(20)) == list(range(20))


def test_an_async_initializer_may_be_given_a_lock() -> None:
    lock = Lock()
    with Pool(1, shares.akeep, ({"lock": lock},), model="asyncio") as pool:
        with lock:
            assert pool.apply(shares.akept_is_free) is False
        assert pool.apply(shares.akept_is_free) is True


def test_an_initializer_may_hold_a_lock_itself() -> None:
    lock = Lock()
    with Pool(2, partial(shares.keep, {"lock": lock})) as pool, lock:
        assert pool.apply(shares.kept_is_free) is False


def test_initargs_may_be_large_and_hold_what_only_we_can_pack() -> None:
    with Pool(1, shares.keep, ({"large": bytes(1 << 20), "function": lambda: 7},)) as pool:
        assert pool.apply(shares.use_kept) == (1 << 20, 7)


def test_what_cannot_travel_is_named() -> None:
    with pytest.raises(NotPicklable, match=r"initargs\[0\]\['bad'\]: a threading.Lock lives in one process"):
        Pool(1, shares.keep, ({"lock": Lock(), "bad": threading.Lock()},))


# ------------------------------------------------------------------------------------ ends that are closed


def test_an_end_that_a_process_closes_is_closed() -> None:
    here, there = Pipe()
    goes_on = Event()
    with here:
        process = Process(target=shares.close_and_wait, args=(there, goes_on))
        process.start()
        there.close()
        assert here.recv() == "closing"
        with pytest.raises(EOFError):
            here.recv()
        assert process.is_alive()
        goes_on.set()
        process.join()


@pytest.mark.parametrize("model", MODELS)
def test_an_end_that_a_call_closes_is_closed(model: dict[str, Any]) -> None:
    goes_on = Event()
    with Pool(1, **model) as pool:
        for nested in (False, True):
            here, there = Pipe()
            with here:
                close = partial(shares.close_and_wait, there, goes_on)
                result = pool.submit(close) if nested else pool.submit(shares.close_and_wait, there, goes_on)
                assert here.recv() == "closing"
                there.close()
                del close, there
                with pytest.raises(EOFError):
                    here.recv()
                assert not result.done()
                goes_on.set()
                result.get(PATIENCE)
                goes_on.clear()


# ---------------------------------------------------------------------------------------- nothing stays


@pytest.mark.parametrize("model", MODELS)
def test_200_functions_that_hold_a_lock_leave_nothing(model: dict[str, Any]) -> None:
    with Pool(1, **model) as pool:

        def use() -> None:
            lock = Lock()
            assert pool.map(partial(shares.number_and_lock, lock), range(3)) == [0, 1, 2]
            assert list(pool.imap(partial(shares.number_and_lock, lock), iter(range(3)))) == [0, 1, 2]
            assert pool.apply(partial(shares.number_and_lock, lock), (7,)) == 7

        for _ in range(3):
            use()
        before = shares.belongings(), pool.apply(shares.belongings)
        for _ in range(200):
            use()
        wait_until(lambda: (shares.belongings(), pool.apply(shares.belongings)) == before, "all is given back")


def test_one_who_changes_between_two_locks_has_both() -> None:
    """A worker keeps only the last function that holds descriptors."""
    first, second = Lock(), Lock()
    with Pool(1) as pool:
        free = [partial(shares.take, lock) for lock in (first, second)]
        with second:
            for _ in range(5):
                assert [pool.submit(one).get() for one in free] == [True, False]
                assert [pool.starmap(one, [()])[0] for one in free] == [True, False]


@pytest.mark.parametrize("model", [{}, {"model": "threads", "concurrency": 1}, {"model": "threads"}])
def test_calls_that_fail_beside_others_with_the_same_lock(model: dict[str, Any]) -> None:
    """An input that is looked at again, for the words of an error, is not counted twice."""
    lock = Lock()
    with Pool(1, **model) as pool:
        for _ in range(5):
            stream = pool.imap(shares.fail_or_take, [(lock, True)] * 6 + [(lock, False)] * 4, chunksize=5)
            outcomes: list[Any] = []
            while len(outcomes) < 10:
                try:
                    outcomes.append(next(stream))
                except LookupError as error:
                    outcomes.append(str(error))
            assert outcomes == ["told to"] * 6 + [True] * 4


def test_closures_leave_nothing() -> None:
    with Pool(2) as pool:

        def use(number: int) -> None:
            def add(x: int) -> int:
                return x + number

            assert pool.map(add, range(3)) == [number, number + 1, number + 2]
            assert [pool.submit(add, 1).get() for _ in range(3)] == [number + 1] * 3

        for number in range(100):
            use(number)
        goes_on(pool)
        before = kept(pool)
        for number in range(300):
            use(number)
        wait_until(lambda: goes_on(pool) and kept(pool) <= before, "all is given back")


def test_large_functions_leave_nothing() -> None:
    with Pool(2) as pool:
        for number in range(20):
            data = bytes(2_000_000)
            assert pool.map(lambda x, data=data: x + len(data), [number]) == [number + 2_000_000]
        wait_until(lambda: goes_on(pool) and kept(pool) < 1_000_000, "all is given back")


def test_globals_that_change_leave_nothing(script: Script) -> None:
    said = script(
        """
        import gc, os, weakref
        from procoro import Lock, Pool
        from tests.promises import shares

        class Big:
            def __init__(self, number):
                self.number, self.data = number, os.urandom(1_000_000)

        def use(x):
            with lock:
                return big.number + x

        def kept():
            return os.fstat(pool._conductor.library.fd).st_blocks * 512

        def once(number):
            global lock, big
            lock, big = Lock(), Big(number)
            assert pool.map(use, range(3)) == [number, number + 1, number + 2]
            assert pool.apply(use, (1,)) == number + 1
            return weakref.ref(big)

        for options in {}, {"model": "threads"}:
            with Pool(2, **options) as pool:
                gc.disable()
                once(0)
                before = shares.belongings()
                for number in range(100):
                    old = once(number)
                once(0)
                print(old() is None, kept() < 4_000_000, shares.belongings() == before)
                gc.enable()
                print(max(pool.map(lambda _: len(os.listdir("/proc/self/fd")), range(50))) < 30)
        """
    )
    assert said.split() == ["True"] * 8


def test_what_is_needed_is_kept(script: Script) -> None:
    """A worker that starts late finds what was defined long before; one that reads late, what it was told of."""
    said = script(
        """
        import os, signal, time
        from procoro import Pool

        def early(x): return x + N
        def late(x): return x * N

        N = 1
        with Pool(1) as pool:
            pid = pool.apply(os.getpid)
            print(pool.map(early, [1]))
            os.kill(pid, signal.SIGSTOP)
            results = []
            for N in range(2, 300):
                results.append(pool.submit(early, 0))
            os.kill(pid, signal.SIGCONT)
            values = [result.get() for result in results]
            print(all(2 <= value < 300 for value in values), values[-1])
            os.kill(pid, signal.SIGKILL)
            print(pool.map(early, [1]), pool.apply(late, (2,)), pool.apply(early, (1,)))
        """
    )
    assert said.splitlines() == ["[2]", "True 299", "[300] 598 300"]


def test_a_pool_ends_while_a_function_is_written() -> None:
    """Its writer may be in a signal handler that waits for just this."""
    pool = Pool(1)
    pool.apply(os.getpid)
    library = pool._conductor.library
    file = Path(f"/proc/self/fd/{library.fd}").readlink()
    library._writing.append(None)
    pool.terminate()
    assert Path(f"/proc/self/fd/{library.fd}").readlink() == file, "not closed under its writer"
    library._writing.pop()
    with pytest.raises(OSError, match="closed"):
        library.add_function(b"late")
    assert not Path(f"/proc/self/fd/{library.fd}").exists() or Path(f"/proc/self/fd/{library.fd}").readlink() != file


def test_a_value_that_stood_in_main_lives_no_longer_than_there(script: Script) -> None:
    said = script(
        """
        import gc, weakref
        from procoro import Pool

        class Value:
            pass

        def use(): return type(value).__name__

        gc.disable()
        with Pool(1) as pool:
            value = Value()
            print(pool.apply(use))
            old = weakref.ref(value)
            value = Value()
            print(pool.apply(use), old() is None)
        """
    )
    assert said.splitlines() == ["Value", "Value True"]


def test_entries_go_when_nobody_holds_them() -> None:
    gc.collect()
    with Pool(1) as pool:
        library = pool._conductor.library
        entry = library.add_function(bytes(100_000))
        old = weakref.ref(entry)
        before = kept(pool)
        del entry
        assert old() is None
        wait_until(lambda: goes_on(pool) and kept(pool) <= before - 90_000, "it is given back")


@pytest.mark.parametrize("model", [{}, {"model": "threads", "concurrency": 20}, {"model": "greenlets"}])
def test_calls_beside_each_other_with_locks_that_come_and_go(model: dict[str, Any]) -> None:
    """One thread lets a lock go while another one gets it: that is whole."""
    locks = [Lock() for _ in range(4)]
    with Pool(2, **model) as pool:
        for _ in range(4):
            results = [
                pool.submit(shares.take_each, locks[number % 4 : number % 4 + 2], number) for number in range(300)
            ]
            for number, result in enumerate(results):
                error = result.exception(PATIENCE)
                assert isinstance(error, LookupError) if number % 7 == 0 else error is None, error
