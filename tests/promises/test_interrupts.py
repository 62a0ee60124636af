"""Ctrl-C at every stage of a program, once and twice: it ends soon, in its own traceback, and leaves nothing."""

import os
import random
import signal
import subprocess
import threading

import psutil
import pytest

from tests.gate import Gate
from tests.promises.conftest import Script, Start
from tests.promises.looks import gone, wait_until

SECONDS = 30.0  # until a program that was interrupted must have ended

PROGRAM = """
import asyncio, atexit, concurrent.futures, itertools, sys, threading
import procoro
from tests.gate import Turnstile
from tests.promises import calls

gate = Turnstile(sys.argv[1])


class Pool(procoro.Pool):
    def __exit__(self, *error):
        print("leaves", flush=True)
        super().__exit__(*error)

    async def __aexit__(self, *error):
        print("leaves", flush=True)
        await super().__aexit__(*error)


def stays(_=None):
    gate.pass_through()


def stays_at(place):
    for i in range(1_000_000):
        if i == place:
            gate.pass_through()
        yield i


class Stays:
    def __reduce__(self):
        stays()


def join(pool, *ends):
    pool.submit(stays)
    for end in ends:
        end(pool)


async def awaits(what):
    async with Pool(2) as pool:
        match what:
            case "result":
                await pool.submit(stays)
            case "map":
                await pool.map_async(stays, range(10))
            case "stream":
                async for _ in pool.imap(stays, itertools.count()):
                    pass
            case "gather":
                await asyncio.gather(*(pool.submit(stays) for _ in range(10)))


{}
"""

# What the program does when it is interrupted: it, or a worker of it, stands at the gate.
STAGES = {
    "arguments": "Pool(2, abs, (x for x in map(stays, [1])))",
    "a new pool, all but made": "Pool(2, abs, (Stays(),))",
    "inputs of a map": "Pool(2).map(calls.double, stays_at(1000))",
    "inputs of a stream": "list(Pool(2).imap(calls.double, stays_at(1000)))",
    "submits": "with Pool(2) as pool:\n    for i in stays_at(1000): pool.submit(calls.double, i)",
    "get": "pool = Pool(2); pool.submit(stays).get()",
    "get in with": "with Pool(2) as pool: pool.submit(stays).get()",
    "get with a timeout": "with Pool(2) as pool: pool.submit(stays).get(1000)",
    "wait": "with Pool(2) as pool: concurrent.futures.wait([pool.submit(stays)])",
    "as_completed": "with Pool(2) as pool: list(concurrent.futures.as_completed([pool.submit(stays)]))",
    "apply": "with Pool(2) as pool: pool.apply(stays)",
    "map": "with Pool(2) as pool: pool.map(stays, range(10))",
    "for": "with Pool(2) as pool:\n    for _ in pool.imap(stays, itertools.count()): pass",
    "next": "with Pool(2) as pool: next(pool.imap_unordered(stays, itertools.count()))",
    "initializer": "with Pool(2, stays) as pool: pool.apply(calls.double, (1,))",
    "join": "join(Pool(2), Pool.close, Pool.join)",
    "join in with": "with Pool(2) as pool: join(pool, Pool.close, Pool.join)",
    "at exit": "pool = Pool(2); pool.submit(calls.spin); atexit.register(stays)",
    "await a result": "asyncio.run(awaits('result'))",
    "await a map": "asyncio.run(awaits('map'))",
    "async for": "asyncio.run(awaits('stream'))",
    "gather": "asyncio.run(awaits('gather'))",
}


def press(process: "subprocess.Popen[str]", whom: str) -> None:
    """Ctrl-C: the terminal sends it to the whole group; `kill -INT` to the program alone."""
    if whom == "group":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)


def ends(process: "subprocess.Popen[str]", pids: list[int]) -> str:
    """Wait for the end of the program and of all its processes; what it has said on standard error."""
    _, said = process.communicate(timeout=SECONDS)
    wait_until(lambda: all(map(gone, pids)), f"all gone, of {pids}", SECONDS)
    assert "procoro/worker" not in said, f"a worker speaks: {said}"
    return said


def family(process: "subprocess.Popen[str]") -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children(recursive=True)]


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c(start: Start, gate: Gate, stage: str) -> None:
    whom = random.Random(stage).choice(["group", "program"])
    process = start(PROGRAM.format(STAGES[stage]), gate.folder)
    gate.reached()
    pids = family(process)
    press(process, whom)
    said = ends(process, pids)
    if stage == "at exit":
        assert said.startswith("Exception ignored in atexit callback"), "as in any program"
        assert said.count("Traceback") == 1 and said.endswith("\nKeyboardInterrupt: \n"), said
    else:
        # asyncio tells of the cancelled task, too.
        assert said.count("Traceback") == 1 + said.count("asyncio.exceptions.CancelledError\n\nDuring"), said
        assert said.endswith("\nKeyboardInterrupt\n"), said
        assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("stage", [stage for stage, code in STAGES.items() if "with" in code or "asyncio" in code])
def test_ctrl_c_and_again_while_the_pool_ends(start: Start, gate: Gate, stage: str) -> None:
    process = start(PROGRAM.format(STAGES[stage]), gate.folder)
    gate.reached()
    pids = family(process)
    press(process, "group")
    assert process.stdout is not None and process.stdout.readline() == "leaves\n"
    press(process, "group")
    said = ends(process, pids)
    assert "KeyboardInterrupt" in said and "bug in procoro" not in said, said
    assert process.returncode in (-signal.SIGINT, 0, 1), "the second may hit Python while it leaves"


CALLBACK = "with Pool(2) as pool: pool.apply_async(abs, (1,), callback=stays); threading.Event().wait()"


def test_ctrl_c_while_a_callback_runs(start: Start, gate: Gate) -> None:
    process = start(PROGRAM.format(CALLBACK), gate.folder)
    gate.reached()
    pids = family(process)
    press(process, "group")
    assert process.stdout is not None and process.stdout.readline() == "leaves\n"
    gate.open()  # the pool ends with its callback
    said = ends(process, pids)
    assert said.count("Traceback") == 1 and said.endswith("\nKeyboardInterrupt\n"), said
    assert process.returncode == -signal.SIGINT


def test_ctrl_c_and_again_while_a_callback_never_ends(start: Start, gate: Gate) -> None:
    process = start(PROGRAM.format(CALLBACK), gate.folder)
    gate.reached()
    pids = family(process)
    press(process, "group")
    assert process.stdout is not None and process.stdout.readline() == "leaves\n"
    press(process, "group")
    assert "KeyboardInterrupt" in ends(process, pids)


LIFE = """
import itertools
from procoro import Pool
from tests.promises import calls

print("here", flush=True)
for _ in range(2):
    with Pool(2, calls.set_state, (1,)) as pool:
        results = [pool.submit(calls.double, i) for i in range(1000)]
        pool.map(calls.double, range(5000))
        for value in pool.imap(calls.double, iter(range(5000))):
            pass
        for value in itertools.islice(pool.imap_unordered(calls.double, itertools.count()), 2000):
            pass
        [result.get() for result in results]
        pool.close()
        pool.join()
print("done")
"""


@pytest.mark.parametrize("seed", range(30))
def test_ctrl_c_at_random_moments(start: Start, seed: int) -> None:
    chance = random.Random(seed)
    process = start(LIFE)
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    for _ in range(1 + seed % 2):
        threading.Event().wait(chance.random() * 0.2)
        if process.poll() is None:
            press(process, chance.choice(["group", "program"]))
    out, said = process.communicate(timeout=SECONDS)
    assert not any(words in said for words in ("worker/loop", "worker/template", "bug in procoro")), said
    # At its very end, when its handlers are gone, the interpreter is ended by the signal itself.
    done = (out, said) == ("done\n", "") and process.returncode in (0, -signal.SIGINT)
    assert done or "KeyboardInterrupt" in said, (process.returncode, out, said)


@pytest.mark.parametrize("way", ["imap", "next", "map_async", "submit"])
def test_interrupts_at_random_moments_do_not_stop_the_pool(script: Script, way: str) -> None:
    """An exception of a signal handler can land between any two steps of a wait."""
    said = script(
        """
        import os, random, signal, sys, time
        from procoro import Pool

        sys.stderr = open(os.devnull, "w")  # what a finalizer raises, is told there

        def f(x): return x

        def once(pool):
            if way == "imap":
                for _ in pool.imap(f, range(300)): pass
            elif way == "next":
                stream = pool.imap(f, range(3))
                stream.next(1)
            elif way == "map_async":
                pool.map_async(f, range(3)).wait(1)
            else:
                pool.submit(f, 1).get(1)

        way = sys.argv[1]
        chance = random.Random(5)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        hit = 0
        with Pool(2) as pool:
            pool.map(f, range(10))
            end = time.monotonic() + 3
            while time.monotonic() < end:
                try:
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.003))
                    once(pool)
                except KeyboardInterrupt:
                    hit += 1
                finally:
                    while True:
                        try:
                            signal.setitimer(signal.ITIMER_REAL, 0)
                            break
                        except KeyboardInterrupt:
                            pass
            assert pool.submit(f, 5).get(10) == 5
        print(hit > 20)
        """,
        way,
    )
    assert said == "True\n"
