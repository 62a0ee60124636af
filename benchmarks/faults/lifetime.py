"""How a pool is started and ended, how long its calls may run, and what is called on the way."""

import gc
import multiprocessing
import os
import threading
import time

from benchmarks.faults import calls
from benchmarks.faults.expect import Wrong, error_of, goes_on, opened, wait_until
from benchmarks.faults.systems import Adapter, Function


def hog_timeout(system: type[Adapter]) -> None:
    """Each of the two workers is sent into a loop in C that looks at no signal, with a limit of 2 s a call. Both calls
    end with a TimeoutError within 10 s, and four later calls have their values."""
    with opened(system, timeout=2.0) as pool:
        started_at = time.monotonic()
        for error in pool.outcomes(calls.hog, [10**12] * 2):
            # trio's is no TimeoutError by inheritance, but one by meaning
            if type(error).__name__ != "TooSlowError" and not isinstance(
                error, (TimeoutError, multiprocessing.TimeoutError)
            ):
                raise Wrong(f"{type(error).__name__} instead of TimeoutError")
        if time.monotonic() - started_at > 10:
            raise Wrong(f"only after {time.monotonic() - started_at:.0f} s")
        goes_on(pool)


def nested_pool(system: type[Adapter]) -> None:
    """A call opens a pool of the same system in its worker, calls a function there, and has the right value."""
    with opened(system) as pool:
        if pool.call(calls.double_in_a_pool, system.name) != 42:
            raise Wrong("another value")


def closes_fds(system: type[Adapter]) -> None:
    """Five pools are opened, called and left after a first one. This process then holds no more descriptors than after
    the first (2 s are given)."""
    one_pool(system)
    before = descriptors()
    for _ in range(5):
        one_pool(system)
    if not wait_until(lambda: descriptors() <= before, 2):
        raise Wrong(f"{descriptors() - before} more after 5 pools")


def churn_50_pools(system: type[Adapter]) -> None:
    """50 pools in a row are opened, called and left; every value is right."""
    for _ in range(50):
        one_pool(system)


def one_pool(system: type[Adapter]) -> None:
    with opened(system) as pool:
        if pool.call(calls.double, 21) != 42:
            raise Wrong("another value")


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def threads_then_pool(system: type[Adapter]) -> None:
    """Four threads take a module's lock in turn, all the time, when the pool is opened. 20 calls that take the same
    lock in their workers have their right values."""

    def holds() -> None:
        while True:
            with calls.LOCK:
                time.sleep(0.01)

    for _ in range(4):
        threading.Thread(target=holds, daemon=True).start()
    with opened(system) as pool:
        found = pool.outcomes(calls.under_lock, range(20))
        if found != [2 * number for number in range(20)]:
            raise Wrong(f"{found!r:.60}")


def callback_raises(system: type[Adapter]) -> None:
    """A call's callback raises. The call's value arrives all the same, so do four later ones, and a later callback is
    called."""

    def raises(value: object) -> None:
        raise RuntimeError("callback")

    seen: list[object] = []
    with opened(system) as pool:
        if pool.call_back(calls.double, 21, raises) != 42:
            raise Wrong("another value")
        goes_on(pool)
        pool.call_back(calls.double, 2, seen.append)
        if not wait_until(lambda: seen == [4], 5):
            raise Wrong("later callbacks are not called")


def init_dies(system: type[Adapter]) -> None:
    """The initializer does `os._exit(1)`, in every worker. A call ends with an error within 8 s."""
    fails_in_time(system, calls.dying_initializer)


def init_raises(system: type[Adapter]) -> None:
    """The initializer raises, in every worker. A call ends with an error within 8 s."""
    fails_in_time(system, calls.raising_initializer)


def fails_in_time(system: type[Adapter], initializer: Function) -> None:
    ended: list[object] = []

    def attempt() -> None:
        try:
            with opened(system, initializer=initializer) as pool:
                ended.append(error_of(lambda: pool.call(calls.double, 21)))
        except BaseException as error:  # a system may refuse already when it is opened
            ended.append(error)

    threading.Thread(target=attempt, daemon=True).start()
    if not wait_until(lambda: ended, 8):
        raise Wrong("no error in 8 s")
    if isinstance(ended[0], Wrong):
        raise ended[0]
