"""Something does not travel between the processes, or should."""

import re
import subprocess
import sys
import threading
import traceback

from benchmarks.faults import calls
from benchmarks.faults.expect import Wrong, error_of, goes_on, opened, words_of
from benchmarks.faults.systems import Adapter
from benchmarks.fresh import ROOT

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
THREE_GIB = 3 * 2**30


def bad_argument(system: type[Adapter]) -> None:
    """An argument cannot be pickled. The call ends with an error, and four later calls have their values."""
    with opened(system) as pool:
        error_of(lambda: pool.call(calls.double, threading.Lock()))
        goes_on(pool)


def bad_result(system: type[Adapter]) -> None:
    """A result cannot be pickled. The call ends with an error, and four later calls have their values."""
    with opened(system) as pool:
        error_of(lambda: pool.call(calls.a_lock, 0))
        goes_on(pool)


def result_unpickle_fails(system: type[Adapter]) -> None:
    """A result pickles in the worker, and raises when it is unpickled. The call ends with an error, and four later
    calls have their values."""
    with opened(system) as pool:
        error_of(lambda: pool.call(calls.unreadable, 0))
        goes_on(pool)


def exception_not_rebuildable(system: type[Adapter]) -> None:
    """A call raises an exception whose class wants two arguments and keeps one, so that it cannot be unpickled. The
    call ends with an error that has the exception's text, and four later calls have their values."""
    with opened(system) as pool:
        error = error_of(lambda: pool.call(calls.write_to_disk, 0))
        if "disk seven is 100 % full" not in words_of(error):
            raise Wrong(f"{type(error).__name__}, text lost")
        goes_on(pool)


def traceback_and_cause(system: type[Adapter]) -> None:
    """A call raises a ValueError from a KeyError. A ValueError arrives; printed, it shows the worker's traceback (the
    function's name and the line that raised) and the KeyError with its key."""
    with opened(system) as pool:
        error = error_of(lambda: pool.call(calls.look_up, "customer-17"))
        if type(error) is not ValueError:
            raise Wrong(f"{type(error).__name__} instead of ValueError")
        printed = COLOURS.sub("", "".join(traceback.format_exception(error)))
        wanted = ("in look_up", 'raise ValueError("no such customer")', "KeyError", "customer-17")
        if missing := [words for words in wanted if words not in printed]:
            raise Wrong(f"not shown: {missing[0]}")


def lambda_(system: type[Adapter]) -> None:
    """A lambda is called, and its value is right."""
    with opened(system) as pool:
        if pool.call(lambda number: number + 1, 41) != 42:
            raise Wrong("another value")


def main_function(system: type[Adapter]) -> None:
    """A program opens a pool and only then defines the function that it calls, as one does in a notebook (it has main
    guards, for those who need them). The three values are right."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults.programs.main_function", system.name],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.stdout != "[2, 4, 6]\n":
        raise Wrong(run.stdout.strip() or f"exit status {run.returncode}")


def big_3_gib_argument(system: type[Adapter]) -> None:
    """An argument of 3 GiB arrives whole."""
    with opened(system) as pool:
        found = pool.call(calls.length_and_end, b"\7" * THREE_GIB)
        if found != (THREE_GIB, 7):
            raise Wrong(f"{found!r:.40}")
