"""Promise 6, at exit: a forgotten pool is terminated, whatever it is about, and nothing is said about it."""

import subprocess
from pathlib import Path

import pytest

from procoro import Pool
from tests.gate import Gate
from tests.promises import calls
from tests.promises.conftest import Script, Start
from tests.promises.looks import kill, template, wait_until

HEAD = """
import atexit, os, sys, threading, time
from procoro import Pool
from tests.gate import Turnstile
from tests.promises import calls
from tests.promises.conftest import Script

gate = Turnstile("gate")
"""


@pytest.fixture
def program(start: Start, tmp_path: Path) -> "Script":
    """Run a program that forgets its pool to its end, which must be a good and a quick one; what it printed."""

    def run(code: str, *flags: str, status: int = 0) -> str:
        process = start(f"{HEAD}{code}", flags=(*flags, "script_0.py"))
        with Gate(tmp_path / "gate"):
            out, said = process.communicate(timeout=20)
        assert (process.returncode, said) == (status, ""), said
        return out

    return run


CALLS = {
    "running and waiting": "pool = Pool(2); results = [pool.submit(calls.stand, gate) for _ in range(50)]",
    "of a map": "pool = Pool(2); result = pool.map_async(calls.stand, [gate] * 50)",
    "an endless stream": "pool = Pool(2); stream = pool.imap(abs, iter(range(10**9))); next(stream), next(stream)",
    "an endless stream that nobody looked at": "pool = Pool(2); stream = pool.imap_unordered(abs, iter(range(10**9)))",
    "of a stream": "pool = Pool(2); s = pool.imap(calls.stand_if, [(gate, n > 9, n) for n in range(99)]); s.next()",
    "in a C loop": "pool = Pool(2); result = pool.submit(calls.spin)",
    "an initializer": "pool = Pool(2, calls.hang); result = pool.submit(abs, 1)",
    "in a cycle": "class C: pass\nc = C(); c.self = c; c.pool = Pool(2); c.result = c.pool.submit(calls.hang); del c",
    "dropped": "result = Pool(2).submit(calls.hang); stream = Pool(1).imap(calls.nap, [99, 99])",
    "closed": "pool = Pool(2); result = pool.submit(calls.hang); pool.close()",
    "in many pools": "pools = [Pool(1) for _ in range(5)]; results = [pool.submit(calls.hang) for pool in pools]",
    "in a pool that has just begun": "pool = Pool(2)",
}


@pytest.mark.parametrize("what", CALLS)
def test_a_program_ends_at_once_and_says_nothing(program: Script, what: str) -> None:
    assert program(f"{CALLS[what]}\nprint('end')") == "end\n"


def test_an_iterator_that_never_yields_does_not_hold_the_program(program: Script) -> None:
    assert (
        program(
            """
def inputs():
    yield -1
    threading.Event().wait()

pool = Pool(1)
stream = pool.imap(abs, inputs())
print(next(stream))
"""
        )
        == "1\n"
    )


def test_callbacks_are_told(program: Script) -> None:
    out = program(
        """
def failed(error):
    print(type(error).__name__)

pool = Pool(1)
result = pool.apply_async(calls.stand, (gate,), callback=print, error_callback=failed)
waits = pool.apply_async(abs, (-1,), callback=print, error_callback=failed)
whole = pool.map_async(calls.stand, [gate], callback=print, error_callback=failed)
future = pool.submit(abs, -1)
future.add_done_callback(lambda future: failed(future.exception()))
print("end")
"""
    )
    assert out == "end\n" + 4 * "PoolTerminated\n"


@pytest.mark.parametrize(
    "leave, status, said",
    [
        ("sys.exit(3)", 3, ""),
        ("sys.exit('words')", 1, "words\n"),
        ("raise LookupError('mine')", 1, "LookupError: mine\n"),
        ("os._exit(4)", 4, ""),
        ("raise KeyboardInterrupt", -2, "KeyboardInterrupt\n"),
    ],
)
def test_it_ends_as_it_would_without_a_pool(start: Start, leave: str, status: int, said: str) -> None:
    process = start(f"{HEAD}pool = Pool(2)\nresult = pool.submit(calls.hang)\n{leave}")
    _, words = process.communicate(timeout=20)
    assert (process.returncode, words[-len(said) :] if said else words) == (status, said), words
    assert "procoro" not in words.replace("from procoro", "")


def test_a_thread_that_still_runs_finishes_with_its_pool(program: Script) -> None:
    """As in any program: at exit, threads that are no daemons are waited for, and nothing is terminated before."""
    out = program(
        """
pool, own = Pool(1), Pool(1)

def go():
    threading.main_thread().join()
    with own:
        print(pool.map(abs, [-1, -2]), own.map(abs, [-3]))

threading.Thread(target=go).start()
print("end")
"""
    )
    assert out == "end\n[1, 2] [3]\n"


@pytest.mark.parametrize("does", ["pool.submit(calls.hang).get()", "while True: pool.submit(abs, 1).get()"])
def test_a_daemon_thread_that_uses_a_pool_does_not_hold_the_program(start: Start, does: str) -> None:
    """It may still say what ended its call."""
    process = start(
        f"{HEAD}pool = Pool(2)\n\ndef go():\n    {does}\n\nthreading.Thread(target=go, daemon=True).start()\n"
        "pool.apply(abs, (1,))\nprint('end')"
    )
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "end\n")


def test_atexit_handlers_may_use_pools(script: Script) -> None:
    """One that was registered behind the import runs before the end of pools, an earlier one behind it."""
    out = script(
        """
        import atexit

        def last():
            global forgotten
            try:
                pool.map(abs, [-1])
            except ValueError as error:
                print(type(error).__name__)
            with procoro.Pool(1) as new:
                print(new.map(abs, [-2]))
            forgotten = procoro.Pool(1)
            result = forgotten.submit(calls.hang)
            print(forgotten)

        def first():
            global within
            with procoro.Pool(1) as new:
                print(new.map(abs, [-3]), pool.map(abs, [-4]))
            within = procoro.Pool(1).submit(calls.hang)

        atexit.register(last)
        import procoro
        from procoro import Pool, errors
        from tests.promises import calls
        atexit.register(first)
        pool = Pool(1)
        print("end")
        """
    )
    assert out == "end\n[3] [4]\nPoolClosed\n[2]\n<procoro.Pool state=RUN processes=1>\n"


def test_what_is_dropped_by_the_end_of_python_waits_for_no_thread(script: Script) -> None:
    """A daemon thread of that moment stops wherever it stands: the crank's, perhaps, while it wakes itself."""
    out = script(
        """
        import atexit, threading

        @atexit.register  # before the import: the last of all
        def at_last():
            print("end")
            leaving.set()
            held.wait()
            crank._awake = False

        from procoro import Pool
        from tests.promises import blockers
        leaving, held = threading.Event(), threading.Event()
        pool = Pool(1)
        crank, stream = pool._conductor.crank, pool.imap(abs, range(10000))
        next(stream)
        holding = crank._wake_lock, leaving, held
        threading.Thread(target=blockers.hold_for_ever, args=holding, daemon=True).start()
        """
    )
    assert out == "end\n"


def test_a_template_that_died_is_waited_for() -> None:
    with Pool(1) as pool:
        worker, dead = pool.apply(calls.pid), template()
        kill(dead.pid)
        kill(worker)
        assert pool.apply(calls.pid) != worker
        wait_until(lambda: not dead.is_running(), "no zombie is left while the pool lives on")
        assert pool.apply(calls.double, (1,)) == 2


def test_under_x_dev_nothing_is_said_either(program: Script) -> None:
    out = program(
        """
pool = Pool(2)
pool.map(lambda x: x, range(100))
results = [pool.submit(calls.stand, gate) for _ in range(5)]
print("end")
""",
        "-X",
        "dev",
        "-W",
        "error",
    )
    assert out == "end\n"


def test_a_forgotten_executor_finishes_its_calls(start: Start, tmp_path: Path) -> None:
    """As `concurrent.futures` documents: at exit, what was submitted is waited for."""
    process = start(
        """
        from procoro import Executor
        from tests.gate import Turnstile
        from tests.promises import calls

        executor = Executor(1)
        results = [executor.submit(calls.stand, Turnstile("gate"))]
        results += [executor.submit(calls.note, "notes") for _ in range(20)]
        executor.submit(print, "done", flush=True)
        print("end", flush=True)
        """,
        stdout=subprocess.PIPE,
    )
    with Gate(tmp_path / "gate") as gate:
        gate.reached()
        assert process.stdout is not None and process.stdout.readline() == "end\n"
        gate.open()
        assert process.communicate(timeout=20) == ("done\n", "")
    assert process.returncode == 0
    assert (tmp_path / "notes").stat().st_size == 20


def test_a_forgotten_executor_finishes_a_map_that_nobody_reads(script: Script) -> None:
    """More of it than may be ahead of a consumer: at exit, there is none any more."""
    said = script(
        """
        from procoro import Executor

        executor = Executor(1)
        values = executor.map(abs, range(20_000))
        print(next(values))
        """
    )
    assert said == "0\n"
