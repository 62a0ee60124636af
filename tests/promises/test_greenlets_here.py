"""`spawn`, `joinall`, `sleep`: greenlets in the caller's process, with gevent's meaning, and nothing patched."""

import asyncio
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from functools import partial
from textwrap import dedent
from typing import Any

import psutil
import pytest

from procoro import joinall, sleep, spawn
from tests.programs import Program
from tests.promises.conftest import PATIENCE, Script, Start
from tests.promises.looks import wait_until

# ---- as gevent: each scene is run with its functions and with ours

HEAD = """
import threading, time
import gevent, gevent.event
from {} import joinall, sleep, spawn

def after(seconds, value=None):
    sleep(seconds)
    return value

def fails(seconds):
    sleep(seconds)
    raise ValueError("no")

def values(greenlets):
    return [greenlet.value for greenlet in greenlets]

def raised(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        return f"{{type(error).__name__}}: {{error}}"

hub = gevent.get_hub()
hub.NOT_ERROR += (ValueError,)  # its tracebacks on stderr are looked at in one scene
"""

# What is done, and what it prints
SCENES = {
    "what comes back is gevent's": (
        """
        print(type(spawn(after, 0)) is gevent.Greenlet, type(joinall([])) is list, sleep(0))
        """,
        "True True None",
    ),
    "arguments": (
        """
        def takes(*args, fn, function, self, timeout):
            return args, fn, function, self, timeout

        greenlet = spawn(takes, 1, 2, fn=3, function=4, self=5, timeout=6)
        print(greenlet.args, sorted(greenlet.kwargs), greenlet.get())
        print(spawn(run=abs).kwargs, raised(spawn, abs, run=abs)[:9])
        """,
        "(1, 2) ['fn', 'function', 'self', 'timeout'] ((1, 2), 3, 4, 5, 6)\n{} TypeError",
    ),
    "things that can be called": (
        """
        import functools

        class Calls:
            def __call__(self): return "called"
            def bound(self): return "bound"
            @classmethod
            def of_class(cls): return "of class"
            @staticmethod
            def static(): return "static"

        which = Calls(), Calls().bound, Calls.of_class, Calls.static, functools.partial(pow, 2, 3), dict, "x".upper
        print(*values(joinall([spawn(one) for one in which])))
        """,
        "called bound of class static 8 {} X",
    ),
    "none runs before the caller waits": (
        """
        said = []
        greenlets = [spawn(said.append, n) for n in range(3)]
        said.append("spawned")
        joinall(greenlets)
        print(said)
        """,
        "['spawned', 0, 1, 2]",
    ),
    "in the order in which they end": (
        """
        greenlets = [spawn(after, seconds, seconds) for seconds in (0.2, 0, 0.1)]
        print(values(joinall(greenlets)), sorted(values(joinall(greenlets))))
        """,
        "[0, 0.1, 0.2] [0, 0.1, 0.2]",
    ),
    "timeout": (
        """
        greenlets = [spawn(after, seconds, seconds) for seconds in (60, 0, 0.05)]
        print([joinall(greenlets[:1], timeout=seconds) for seconds in (-1, 0, 0.01)])
        print(values(joinall(greenlets, 1.0)), sorted(values(joinall(greenlets, timeout=0.01))), greenlets[0].dead)
        print(len(joinall(greenlets[1:], timeout=60)), len(joinall(greenlets[1:], timeout=True)))
        """,
        "[[], [], []]\n[0, 0.05] [0, 0.05] False\n2 2",
    ),
    "count": (
        """
        greenlets = [spawn(after, seconds, seconds) for seconds in (60, 0.05, 0)]
        print(values(joinall(greenlets, count=0)), values(joinall(greenlets, None, False, 1)))
        print(sorted(values(joinall(greenlets, count=2))), sorted(values(joinall(greenlets[1:], count=9))))
        print(sorted(values(joinall(greenlets, 0.01, count=3))), raised(joinall, greenlets, count="1")[:9])
        """,
        "[] [0]\n[0, 0.05] [0, 0.05]\n[0, 0.05] TypeError",
    ),
    "an exception is kept": (
        """
        greenlets = [spawn(fails, 0), spawn(after, 0.05, 5)]
        ended = joinall(greenlets)
        print(ended == greenlets, values(ended), repr(ended[0].exception), ended[0].successful(), raised(ended[0].get))
        """,
        "True [None, 5] ValueError('no') False ValueError: no",
    ),
    "an exception is raised": (
        """
        greenlets = [spawn(after, 0, 0), spawn(fails, 0.05), spawn(after, 0.1, 2)]
        print(raised(joinall, greenlets, raise_error=True), greenlets[2].dead)
        print(raised(joinall, greenlets[:2], None, True), values(joinall(greenlets[2:], raise_error=True)))
        print(values(joinall(greenlets, raise_error=True, count=0)))
        """,
        "ValueError: no False\nValueError: no [2]\n[]",
    ),
    "an exception is printed, and stops no other": (
        """
        hub.NOT_ERROR = type(hub).NOT_ERROR
        print(values(joinall([spawn(fails, 0), spawn(after, 0.05, 5)])))
        """,
        "[None, 5]",
    ),
    "kill": (
        """
        said = []

        def stays():
            try:
                sleep(60)
            finally:
                said.append("left")

        never, killed = spawn(stays), spawn(stays)
        never.kill()
        sleep(0)
        killed.kill()
        print(said, [type(one.value).__name__ for one in joinall([never, killed])], killed.dead, killed.successful())
        """,
        "['left'] ['GreenletExit', 'GreenletExit'] True True",
    ),
    "get": (
        """
        slow = spawn(after, 60)
        print(spawn(after, 0, 1).get(), raised(slow.get, timeout=0.01), raised(slow.get, block=False), slow.ready())
        """,
        "1 Timeout: 0.01 seconds Timeout:  False",
    ),
    "collections": (
        """
        greenlets = [spawn(after, 0, n) for n in range(2)]
        print(len(joinall(set(greenlets))), len(joinall(tuple(greenlets))), len(joinall(greenlets * 2)))
        print(raised(joinall, (one for one in greenlets)))
        print(raised(joinall, 3)[:9])
        event = gevent.event.Event()
        print(joinall([event], timeout=0), event.set(), joinall([event]) == [event])
        """,
        "2 2 4\nTypeError: object of type 'generator' has no len()\nTypeError\n[] None True",
    ),
    "greenlets in greenlets": (
        """
        def sums(depth):
            return 1 if depth == 0 else sum(values(joinall([spawn(sums, depth - 1) for _ in range(3)])))

        print(sums(4), spawn(sums, 4).get())
        """,
        "81 81",
    ),
    "they take turns": (
        """
        said = []

        def turns(name, seconds):
            for n in range(3):
                said.append(f"{name}{n}")
                sleep(seconds) if seconds is not None else sleep()

        joinall([spawn(turns, name, seconds) for name, seconds in zip("abcd", (0, None, -1, False))])
        print(*said)
        """,
        "a0 b0 c0 d0 a1 b1 c1 d1 a2 b2 c2 d2",
    ),
    "a wait that nobody waits for": (
        """
        spawn(sleep, 60, ref=False)
        spawn(sleep, 60, False)
        sleep(0)
        print(gevent.wait())
        """,
        "True",
    ),
    "a wait that can never end": (
        """
        print(raised(joinall, [spawn(gevent.event.Event().wait)]).splitlines()[0])
        """,
        "LoopExit: This operation would block forever",
    ),
    "locals": (
        """
        import gevent.local

        own = gevent.local.local()

        def keeps(n):
            own.n = n
            sleep(0)
            return own.n

        print(values(joinall([spawn(keeps, n) for n in range(3)])))
        print(spawn(abs, 1).spawning_greenlet() is gevent.getcurrent())
        """,
        "[0, 1, 2]\nTrue",
    ),
    "each thread has greenlets of its own": (
        """
        said = {}

        def life(name):
            said[name] = values(joinall([spawn(after, 0.01 * n, f"{name}{n}") for n in range(3)]))
            gevent.get_hub().destroy()

        threads = [threading.Thread(target=life, args=(name,)) for name in "ab"]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(*said["a"], *said["b"])
        """,
        "a0 a1 a2 b0 b1 b2",
    ),
    "sys.exit in a greenlet ends the program": (
        """
        import sys

        print("begins", flush=True)
        joinall([spawn(sys.exit, 7), spawn(after, 60)])
        print("goes on")
        """,
        "begins",
    ),
    "in a program that gevent has patched": (
        """
        from gevent import monkey

        monkey.patch_all()
        began = time.monotonic()
        print(len(joinall([spawn(time.sleep, 0.2) for _ in range(100)] + [spawn(sleep, 0.2) for _ in range(100)])))
        print(time.monotonic() - began < 10)
        thread = threading.Thread(target=sleep, args=(0.01,))
        thread.start()
        print(thread.join(), spawn(threading.Lock().acquire).get())
        """,
        "200\nTrue\nNone True",
    ),
    "in a forked child": (
        """
        import os, sys

        def forks():
            pid = os.fork()
            if pid == 0:
                sleep(0.01)
                print(values(joinall([spawn(after, 0.01 * n, n) for n in range(3)])), flush=True)
                os._exit(5)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        print(forks(), spawn(after, 0.01, 3).get(), flush=True)
        print(spawn(forks).get(), spawn(after, 0.01, 4).get())
        """,
        "[0, 1, 2]\n5 3\n[0, 1, 2]\n5 4",
    ),
}
EXITCODES = {"sys.exit in a greenlet ends the program": 7}
SAYS = {"an exception is printed, and stops no other": ["Traceback", "ValueError: no", "failed with ValueError"]}


@pytest.mark.parametrize("scene", SCENES)
def test_as_gevent(start: Start, scene: str) -> None:
    code, wanted = SCENES[scene]
    for library in ("gevent", "procoro"):
        exitcode, printed, said = ended(start(HEAD.format(library) + dedent(code)))
        assert (exitcode, printed.strip()) == (EXITCODES.get(scene, 0), wanted), (library, said)
        words = SAYS.get(scene, [])
        assert all(said.count(word) == 1 for word in words) if words else said == "", library


# ---- nothing is patched, and nothing loaded that is not used


def test_nothing_is_patched(script: Script) -> None:
    printed = script(
        """
        import os, queue, select, selectors, signal, socket, ssl, subprocess, sys, threading, time

        MODULES = os, queue, select, selectors, signal, socket, ssl, subprocess, sys, threading, time

        def state():
            found = {(module.__name__, name): value for module in MODULES for name, value in vars(module).items()}
            return found | {number: signal.getsignal(number) for number in signal.valid_signals()}

        before = state()
        from procoro import joinall, sleep, spawn
        joinall([spawn(sleep, 0.01), spawn(sleep)], timeout=5, raise_error=True, count=2)
        after = state()
        print([key for key, value in before.items() if after.get(key) is not value], threading.active_count())
        print(socket.socket.__module__, time.sleep.__module__, type(threading.Lock()).__module__)

        began = time.monotonic()
        joinall([spawn(time.sleep, 0.1) for _ in range(3)])
        print(time.monotonic() - began >= 0.3)
        """
    )
    assert printed == "[] 1\nsocket time _thread\nTrue\n"


def test_gevent_is_loaded_when_it_is_used(script: Script) -> None:
    printed = script(
        """
        import sys
        import procoro
        from procoro import *
        assert procoro.spawn is spawn and callable(joinall) and callable(procoro.sleep)
        print("gevent" in sys.modules, "inspect" in sys.modules)
        spawn(abs, 1)
        print("gevent" in sys.modules, "gevent.monkey" in sys.modules, "asyncio" in sys.modules)
        """
    )
    assert printed == "False False\nTrue False False\n"


@pytest.mark.pure
@pytest.mark.parametrize("use", [lambda: spawn(abs, 1), lambda: joinall([]), lambda: sleep(0)])
def test_without_gevent_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch, use: Callable[[], object]) -> None:
    monkeypatch.setitem(sys.modules, "gevent", None)
    with pytest.raises(ImportError, match=r"^spawn, joinall and sleep need gevent, .* pip install gevent$") as caught:
        use()
    assert caught.value.name == "gevent"


# ---- what is refused, in words


async def coroutine(*_: object) -> None:
    """Never runs."""


async def generator(*_: object) -> AsyncIterator[int]:
    yield 1


class Awaits:
    async def method(self) -> None:
        """Never runs."""

    @classmethod
    async def of_class(cls) -> None:
        """Never runs."""

    @staticmethod
    async def static() -> None:
        """Never runs."""

    async def __call__(self) -> None:
        """Never runs."""


class Inherits(Awaits):
    pass


ASYNC = [
    coroutine,
    generator,
    Awaits().method,
    Awaits().of_class,
    Awaits.static,
    Awaits(),
    Inherits(),
    Inherits().method,
    partial(coroutine, 1),
    partial(partial(Awaits().method)),
    partial(Awaits()),
]


@pytest.mark.pure
@pytest.mark.parametrize("function", ASYNC)
def test_async_functions_are_refused(function: Callable[..., Any]) -> None:
    words = r"^spawn takes plain functions, not `async def` ones, got .*TaskGroup.*Pool"
    with warnings.catch_warnings(action="error"), pytest.raises(TypeError, match=words):  # and no coroutine is made
        spawn(function)


@pytest.mark.pure
def test_a_coroutine_is_refused_and_can_still_be_awaited() -> None:
    async def value() -> int:
        return 7

    given: Any = value()
    with pytest.raises(TypeError, match=r"got <coroutine object .*TaskGroup"):
        spawn(given)
    assert asyncio.run(given) == 7


@pytest.mark.pure
@pytest.mark.parametrize("given", [None, 3, "print", [print], spawn])
def test_what_cannot_be_called_is_refused(given: Any) -> None:
    if given is spawn:
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'run'"):
            given()
    else:
        with pytest.raises(TypeError, match=r"^spawn takes a function and its arguments, as in spawn\(f, x\), got "):
            spawn(given)


@pytest.mark.pure
@pytest.mark.parametrize("given", [None, "1", b"1", [1], 1j])
def test_seconds_are_numbers(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^seconds must be a number of seconds, got "):
        sleep(given)
    if given is not None:
        with pytest.raises(TypeError, match=r"^timeout must be a number of seconds, got "):
            joinall([], timeout=given)


@pytest.mark.pure
def test_nan_seconds_are_refused() -> None:
    """gevent's loop never wakes up from them, not even for a `gevent.Timeout`."""
    with pytest.raises(ValueError, match=r"^seconds must be a number of seconds, got nan"):
        sleep(float("nan"))
    with pytest.raises(ValueError, match=r"^timeout must be a number of seconds, got nan"):
        joinall([], timeout=float("nan"))


@pytest.mark.pure
@pytest.mark.parametrize("given", [print, None, 3])
def test_only_greenlets_can_be_joined(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^joinall waits for greenlets, as spawn returns them, got "):
        joinall([given])
    with pytest.raises(TypeError, match="not iterable"):
        joinall(given)


# ---- Ctrl-C

INTERRUPTED = """
import signal, sys, time
from procoro import Pool, joinall, sleep, spawn

def begins(wait, *args):
    print("in", flush=True)
    wait(*args)

def many(wait, *args):
    return [spawn(wait, *args) for _ in range(1000)] + [spawn(begins, wait, *args)]

def turns():
    while True:
        sleep(0)

def computes():
    while True:
        pass

"""

# What the program does when it is interrupted, and how many tracebacks it shows at most: gevent shows that of the
# greenlet which the interrupt has hit, if it was running
STAGES = {
    "joinall": ("joinall(many(sleep, 60))", 1),
    "joinall with a time-out": ("joinall(many(sleep, 60), timeout=50)", 1),
    "joinall that raises": ("joinall(many(sleep, 60), raise_error=True)", 1),
    "sleep": ("begins(sleep, 60)", 1),
    "get": ("many(sleep, 60)[-1].get()", 1),
    "joinall in a greenlet": ("joinall([spawn(lambda: joinall(many(sleep, 60)))])", 1),
    "greenlets that take turns": ("joinall([*(spawn(turns) for _ in range(10)), spawn(begins, turns)])", 2),
    "a greenlet that computes": ("joinall([spawn(begins, computes), spawn(sleep, 60)])", 2),
    "a greenlet that blocks": ("joinall([spawn(begins, time.sleep, 60), spawn(sleep, 60)])", 2),
    "beside a pool": (
        """
with Pool(2) as pool:
    results = [pool.submit(time.sleep, 60) for _ in range(10)]
    pool.submit(abs, 1)
    joinall(many(sleep, 60))
""",
        2,
    ),
    "patched": ("import gevent.monkey; gevent.monkey.patch_all(); joinall(many(time.sleep, 60))", 1),
}
BUSY = ("greenlets that take turns", "a greenlet that computes")


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupt_ends_the_program(start: Start, stage: str) -> None:
    code, most = STAGES[stage]
    process = start(INTERRUPTED + code)
    interrupt(process, stage not in BUSY)
    exitcode, printed, said = ended(process)
    assert (exitcode, printed) == (-signal.SIGINT, ""), said
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    assert 1 <= said.count("Traceback") <= most, said


def test_an_interrupt_that_is_caught_comes_once(start: Start) -> None:
    process = start(
        INTERRUPTED
        + dedent("""
        stays = many(sleep, 60)
        try:
            joinall(stays)
        except KeyboardInterrupt:
            print("caught", sum(one.dead for one in stays), flush=True)
        print(joinall(stays, timeout=0.1), spawn(pow, 2, 3).get())
        """)
    )
    interrupt(process, True)
    assert ended(process)[:2] == (0, "caught 0\n[] 8\n")


# ---- with the rest of the house


def test_beside_a_pool_and_in_its_workers(script: Script) -> None:
    printed = script(
        """
        import os
        from procoro import Pool, Process, joinall, sleep, spawn

        def here(n):
            sleep(0.05)
            return n

        def values(n):
            return [greenlet.value for greenlet in joinall([spawn(here, n + i) for i in range(3)])]

        with Pool(2) as pool:
            calls = pool.map_async(values, range(4))
            print(values(100))
            print(calls.get())
            print(pool.map(values, [5]) == [values(5)])

            said = []
            waits = spawn(lambda: said.append(pool.apply(values, (7,))))
            joinall([waits, spawn(said.append, "then")])
            print(said)

        process = Process(target=values, args=(10,))
        process.start()
        print(process.result())
        """
    )
    assert printed.splitlines() == [
        "[100, 101, 102]",
        "[[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]",
        "True",
        "[[7, 8, 9], 'then']",  # not patched, a wait for a pool stops the other greenlets
        "[10, 11, 12]",
    ]


def test_the_docstrings_do_what_they_show(script: Script) -> None:
    printed = script("import doctest, procoro.greenlets; print(doctest.testmod(procoro.greenlets))")
    assert printed == "TestResults(failed=0, attempted=3)\n"


# ----


def interrupt(process: Program, waits: bool) -> None:
    """A Ctrl-C when the program is where it is to be."""
    assert process.stdout is not None and process.stdout.readline() == "in\n"
    if waits:
        wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING, "it waits")
    process.send_signal(signal.SIGINT)


def ended(process: Program) -> tuple[int, str, str]:
    """Its exit code, what it printed, and what it said on stderr."""
    try:
        printed, said = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail("\n".join(["it does not end; what it said:", *process.communicate()]))
    return process.returncode, printed, said
