"""Calls that die, do not end, return what does not arrive, or leave their worker in disorder."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.chaos.kinds import LIMIT, MEMORY, TIMEOUT, good, kind, never, raises, returns, small
from tests.chaos.notes import CHILD, folder, note
from tests.chaos.tame import Own

LIVES_ON = 30.0  # seconds, at most, that a child that was forked outlives its call

# ------------------------------------------------------------------------------ results that do not arrive


class Rigged:
    """Pickles; unpickling it calls a function."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> Any:
        return self.call


class Fatal:
    """Pickling it calls a function."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        self.call(*self.arguments)
        return int, ()


def explode(number: int) -> None:
    raise Own(number)


@kind(lambda number, ok, error: not ok and type(error).__name__ == "NotPicklable", 8)
def returns_a_lock(number: int) -> Any:
    return {"deep": [number, threading.Lock()]}


@kind(lambda number, ok, error: not ok and type(error).__name__ == "NotPicklable", 4)
def returns_what_exits_when_packed(number: int) -> Any:
    return Fatal(sys.exit, number)


@kind(raises("ResultNotUnpicklable", lambda error: error.__cause__), 8)
def returns_a_bomb(number: int) -> Any:
    return Rigged(explode, number)


@kind(raises("ResultNotUnpicklable", lambda error: error.__cause__), 4)
def returns_what_exits_when_unpacked(number: int) -> Any:
    return Rigged(sys.exit, f"of {number}")


# ------------------------------------------------------------------------------------------------ deaths


def kill_self(_: object = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@kind(never, 8, codes=(-signal.SIGKILL,))
def kills_itself(number: int) -> None:
    kill_self()


@kind(never, 6, codes=(-signal.SIGSEGV,))
def segfaults(number: int) -> None:
    import ctypes

    ctypes.string_at(0)


@kind(never, 8, codes=(0, 3))
def exits(number: int) -> None:
    os._exit(number % 2 * 3)


@kind(never, 4, codes=(-signal.SIGKILL,))
def dies_in_packing(number: int) -> Any:
    return Fatal(kill_self)


@kind(never, 4, codes=(7,))
def exits_in_packing(number: int) -> Any:
    return number, Fatal(os._exit, 7), "x" * 100_000


@kind(raises("Own"), 6, form="bomb")
def is_given_a_bomb(number: int) -> None:
    """Its input does not unpickle."""


@kind(never, 5, codes=(-signal.SIGKILL,), form="death")
def is_given_its_death(number: int) -> None:
    """Unpickling its input kills the worker."""


@kind(never, 5, codes=(6,), form="exit")
def is_given_the_exit(number: int) -> None:
    """Unpickling its input ends the worker."""


@kind(lambda number, ok, error: not ok and type(error).__name__ == "NotPicklable", 6, form="lock")
def is_refused(number: int) -> None:
    """Its input does not pickle."""


# ------------------------------------------------------------------------------------- without an end


@kind(never, 2, needs=TIMEOUT)
def sleeps(number: int) -> None:
    time.sleep(3600)


@kind(never, 2, needs=TIMEOUT)
def spins(number: int) -> int:
    return sum(range(10**12))


@kind(never, 2, needs=TIMEOUT)
def stops_itself(number: int) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(3600)


@kind(returns(small), 2, needs=TIMEOUT)
def ends_at_its_timeout(number: int) -> int:
    """Just before it is killed, then, or just after."""
    time.sleep(LIMIT + number % 16 / 1600)
    return small(number)


@kind(never, 2, needs=MEMORY)
def hoards(number: int) -> int:
    held = b"x" * (300 << 20)
    time.sleep(3600)
    return len(held)


# --------------------------------------------------------------------------- what a worker has to endure


@good(returns(small), 8)
def forks_and_both_return(number: int) -> int:
    os.fork()
    return small(number)


@good(lambda number, ok, outcome: ok and outcome[0] == number and outcome[2] == "parent", 4)
def forks_and_both_return_much(number: int) -> Any:
    child = os.fork()
    return number, "x" * 100_000, "parent" if child else "child"


@kind(raises("Own"), 5)
def forks_and_both_raise(number: int) -> None:
    os.fork()
    raise Own(number)


@good(returns(small), 4)
def forks_one_that_lives_on(number: int) -> int:
    child = os.fork()
    if not child:
        note(CHILD, os.getpid())
        until = time.monotonic() + LIVES_ON
        while time.monotonic() < until and os.path.exists(f"{folder()}/running"):
            time.sleep(0.05)
        os._exit(0)
    return small(number)


@good(returns(small), 8)
def blocks_signals(number: int) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return small(number)


@good(returns(small), 5)
def closes_descriptors(number: int) -> int:
    os.closerange(3, 256)
    return small(number)


@good(returns(small), 6)
def starts_threads(number: int) -> int:
    for daemon in (True, False):
        threading.Thread(target=time.sleep, args=(3600,), daemon=daemon).start()
    return small(number)


@good(returns(small), 8)
def goes_elsewhere(number: int) -> int:
    os.chdir("/")
    return small(number)
