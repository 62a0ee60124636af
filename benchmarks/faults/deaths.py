"""A worker dies. The error must be the guilty call's, and the pool must go on."""

import os
import re
import signal
import tempfile
import time
from pathlib import Path

from benchmarks.faults import calls
from benchmarks.faults.expect import Wrong, error_of, errors_in, goes_on, opened, words_of
from benchmarks.faults.systems import Adapter


def kill9_keeps_others(system: type[Adapter]) -> None:
    """20 calls are handed in at once, one of which kills its own worker. The other 19 have their right values, and
    exactly one ends with an error."""
    with opened(system) as pool:
        found = pool.outcomes(calls.seventh_kills_itself, range(20))
        errors = errors_in(found)
        good = sum(value == 2 * number for number, value in enumerate(found))
        if (good, len(errors)) != (19, 1) or found[7] is not errors[0]:
            raise Wrong(" ".join([f"good={good} bad={len(errors)}", *{type(one).__name__ for one in errors}]))


def kill9_pool_goes_on(system: type[Adapter]) -> None:
    """A call kills its own worker, and ends with an error. Four later calls on the same pool have their values."""
    with opened(system) as pool:
        error_of(lambda: pool.call(calls.kill_myself))
        goes_on(pool)


def kill9_map_ends(system: type[Adapter]) -> None:
    """A `map` over 20 inputs, one of whose calls kills its own worker, ends, with an error."""
    with opened(system) as pool:
        error_of(lambda: pool.map(calls.seventh_kills_itself, range(20)))


def kill9_names_call(system: type[Adapter]) -> None:
    """A call kills its own worker. The error's text (with its notes and causes) has the function's name, the
    argument, and the worker's pid or the signal."""
    with opened(system) as pool, tempfile.TemporaryDirectory() as folder:
        note = Path(folder, "pid")
        words = words_of(error_of(lambda: pool.call(calls.deliver, "order-4711", str(note))))
        how = re.search(rf"SIGKILL|signal 9\b|-9\b|\b{note.read_text()}\b", words)
        lacks = [
            what
            for what, there in [
                ("function", "deliver" in words),
                ("argument", "order-4711" in words),
                ("pid or signal", how),
            ]
            if not there
        ]
        if lacks:
            raise Wrong(f"names no {', '.join(lacks)}")


def kill9_idle_worker(system: type[Adapter]) -> None:
    """An idle worker is killed from outside: first the one that ran the last call, later one that did not (where both
    wait for work, one may hold a lock). Half a second after each death, four calls have their right values."""
    with opened(system) as pool:
        for ran_last in (True, False):
            both = set(pool.outcomes(calls.nap, [0.2] * 2))
            last = pool.call(calls.nap, 0.05)
            os.kill(last if ran_last else (both - {last}).pop(), signal.SIGKILL)
            time.sleep(0.5)
            goes_on(pool)


def segfault(system: type[Adapter]) -> None:
    """A call reads address 0. It ends with an error, and four later calls have their values."""
    with opened(system) as pool:
        error_of(lambda: pool.call(calls.segfault, 0))
        goes_on(pool)


def os_exit(system: type[Adapter]) -> None:
    """A call does `os._exit(3)`. It ends with an error, and four later calls have their values."""
    with opened(system) as pool:
        error_of(lambda: pool.call(calls.os_exit, 3))
        goes_on(pool)


def sys_exit(system: type[Adapter]) -> None:
    """A call does `sys.exit(3)`. It ends with an error, SystemExit or another, and four later calls have their
    values."""
    with opened(system) as pool:
        error_of(lambda: pool.call(calls.sys_exit, 3))
        goes_on(pool)
