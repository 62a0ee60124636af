"""What keeps an event loop from turning, for so many seconds; in C, for ever. And what keeps a lock."""

import re
import threading
import time

from procoro import kernel


def loop_in_python(seconds: float) -> None:
    """Of a core's time: who does not get one is not said to block."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def aloop_in_python(seconds: float) -> None:
    loop_in_python(seconds)


def sum_in_c(seconds: float) -> None:
    """Has no end that anybody would wait for; holds the interpreter's lock."""
    sum(range(10**12))


async def asum_in_c(seconds: float) -> None:
    sum(range(10**12))


def long_regex(seconds: float) -> None:
    re.match(r"(a+)+b", "a" * 80)  # likewise


async def along_regex(seconds: float) -> None:
    re.match(r"(a+)+b", "a" * 80)


def original_sleep(seconds: float) -> None:
    """As a C extension that waits, and lets no greenlet in."""
    kernel.original("time", "sleep")(seconds)


async def aoriginal_sleep(seconds: float) -> None:
    kernel.original("time", "sleep")(seconds)


def hold_for_ever(lock: threading.Lock, go: threading.Event, held: threading.Event) -> None:
    """In a thread of its own, until that is stopped with its process."""
    go.wait()
    with lock:
        held.set()
        threading.Event().wait()
