"""The functions that are called in the workers. What goes wrong in them is meant."""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

LOCK = threading.Lock()  # as any library has one, around a cache or a log


def double(number: int) -> int:
    return 2 * number


def nap(seconds: float) -> int:
    """Sleep, and tell who slept."""
    time.sleep(seconds)
    return os.getpid()


def nap_noted(seconds: float, folder: str) -> int:
    """As `nap`, with a file that shows that it has begun."""
    Path(folder, f"asleep-{os.getpid()}").touch()
    return nap(seconds)


def kill_myself(number: int = 0) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
    return number


def seventh_kills_itself(number: int) -> int:
    if number == 7:
        kill_myself()
    time.sleep(0.02)
    return 2 * number


def deliver(order: str, note: str) -> None:
    """Leave the worker's pid in the file `note`, and die."""
    Path(note).write_text(str(os.getpid()))
    kill_myself()


def segfault(number: int) -> int:
    return len(ctypes.string_at(number))


def os_exit(status: int) -> None:
    os._exit(status)


def sys_exit(status: int) -> None:
    sys.exit(status)


def hog(number: int) -> int:
    """A loop in C that looks at no signal: hours."""
    return sum(range(number))


def a_lock(_: int) -> Any:
    """What cannot be pickled."""
    return threading.Lock()


class Unreadable:
    """Can be pickled; to unpickle it raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        return cannot_be_read, ()


def cannot_be_read() -> None:
    raise ValueError("these bytes cannot be read")


def unreadable(_: int) -> Unreadable:
    return Unreadable()


class DiskFull(Exception):
    """Pickles, but cannot be rebuilt: it is made of two arguments and keeps one."""

    def __init__(self, disk: str, percent: int) -> None:
        super().__init__(f"{disk} is {percent} % full")


def write_to_disk(_: int) -> None:
    raise DiskFull("disk seven", 100)


def look_up(key: str) -> None:
    try:
        raise KeyError(key)
    except KeyError as error:
        raise ValueError("no such customer") from error


def shout(lines: int) -> None:
    """Print so many lines of 1 KiB."""
    for _ in range(lines):
        print("x" * 1023)
    sys.stdout.flush()


def under_lock(number: int) -> int:
    with LOCK:
        return 2 * number


def length_and_end(data: bytes) -> tuple[int, int]:
    return len(data), data[-1]


def double_in_a_pool(system: str) -> Any:
    from benchmarks.faults.expect import opened
    from benchmarks.faults.systems import named

    with opened(named(system)) as pool:
        return pool.call(double, 21)


def dying_initializer() -> None:
    os._exit(1)


def raising_initializer() -> None:
    raise RuntimeError("no database")
