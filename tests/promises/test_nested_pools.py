"""A pool in a worker: `__main__` works at every level, and whoever ends a worker ends what it has started."""

import asyncio
import importlib.util
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from procoro import Pool
from procoro.errors import CallKilled, CallTimeout, PoolTerminated, ProcoroError, WorkerDied, failed_call
from tests.gate import Gate
from tests.promises import calls, nesting
from tests.promises.conftest import Script, Start
from tests.promises.looks import PATIENCE, gone, in_a_loop, template, wait_until

SECONDS = 2.0


def all_leave(pids: list[int]) -> None:
    wait_until(lambda: all(map(gone, pids)), f"all gone, of {pids}", SECONDS)


def started_by(pid: int) -> list[int]:
    return [process.pid for process in psutil.Process(pid).children(recursive=True)]


# ------------------------------------------------------------------------------------- what works below


def test_functions_and_classes_of_main_work_three_levels_down(script: Script) -> None:
    assert (
        script(
            """
            import dataclasses, enum
            from procoro import Pool

            N = 5

            @dataclasses.dataclass
            class Point:
                x: int

            class Color(enum.Enum):
                RED = 1

            def helper(x):
                return x + N

            def leaf(point):
                assert isinstance(point, Point)
                return Point(helper(point.x)), Color.RED, Point

            def middle(point):
                class Local(Point): pass

                with Pool(1) as pool:
                    made = pool.map(leaf, [point, Point(point.x + 1)])
                    assert all(isinstance(one, Point) and color is Color.RED and kind is Point
                               for one, color, kind in made)
                    assert pool.submit(lambda one: (type(one) is Point, helper(1)), point).get() == (True, 6)
                    assert type(pool.submit(lambda: Local(1)).get()) is Local
                return made, Local(2)

            def top(x):
                with Pool(1) as pool:
                    made, local = pool.submit(middle, Point(x)).get()
                assert all(isinstance(one, Point) for one, _, _ in made) and isinstance(local, Point)
                return made

            with Pool(2) as pool:
                for made in pool.map(top, [1, 2]):
                    print([(one.x, type(one) is Point, color is Color.RED, kind is Point) for one, color, kind in made])
            """
        )
        == "[(6, True, True, True), (7, True, True, True)]\n[(7, True, True, True), (8, True, True, True)]\n"
    )


def test_an_exception_of_main_comes_up_with_every_level_in_its_notes(script: Script) -> None:
    assert (
        script(
            """
            from procoro import Pool
            from procoro.errors import failed_call

            class Oops(Exception): pass

            def leaf(x):
                raise Oops("deep", x)

            def middle(x):
                with Pool(1) as pool:
                    return pool.map(leaf, [x])

            def top(x):
                with Pool(1) as pool:
                    return pool.submit(middle, x).get()

            with Pool(1) as pool:
                try:
                    pool.submit(top, 7).get()
                except Oops as error:
                    said = "".join(error.__notes__)
                    print(error.args, failed_call(error))
                    print([f"by {name}(7) [call 0]" in said for name in ("leaf", "middle", "top")])
            """
        )
        == "('deep', 7) top(7) [call 0]\n[True, True, True]\n"
    )


def test_what_an_initializer_sets_and_what_a_notebook_changes_is_seen_below(script: Script) -> None:
    assert (
        script(
            """
            from procoro import Pool

            state, N = None, 1

            def start(value):
                global state
                state = value

            def inner(x):
                return state, x * N

            def outer(x):
                with Pool(1, start, (f"below {state}",)) as pool:
                    return pool.map(inner, [x])

            pool = Pool(1, start, ("mine",))
            print(pool.map(outer, [1, 2]))
            N = 10
            print(pool.map(outer, [3]), state)
            pool.terminate()
            """
        )
        == "[[('below mine', 1)], [('below mine', 2)]]\n[[('below mine', 30)]] None\n"
    )


def test_words_and_records_from_below_reach_the_caller(start: Start) -> None:
    process = start(
        """
        import logging, sys
        from procoro import Pool

        logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout, level=logging.INFO)

        def leaf(x):
            print("leaf", x)
            logging.getLogger("mine").info("logged %s", x)

        def middle(x):
            with Pool(1) as pool:
                pool.map(leaf, [x])
                pool.close()
                pool.join()

        with Pool(1) as pool:
            pool.apply(middle, (4,))
            pool.close()
            pool.join()
        """
    )
    out, said = process.communicate(timeout=20)
    assert (sorted(out.splitlines()), said) == (["INFO logged 4", "leaf 4"], "")


def test_a_death_below_is_charged_there_and_the_levels_above_go_on() -> None:
    with Pool(1) as pool:
        worker = pool.apply(calls.pid)
        with pytest.raises(WorkerDied, match=r"at_depth\(0, .*kill_self") as caught:
            pool.apply(nesting.at_depth, (2, calls.kill_self))
        assert caught.value.exitcode == -signal.SIGKILL and caught.value.pid != worker
        call = failed_call(caught.value)
        assert call is not None and call.pid == worker
        assert pool.apply(calls.pid) == worker
        assert pool.apply(nesting.at_depth, (2, calls.pid)) != worker


def test_streams_threads_and_event_loops_below() -> None:
    with Pool(2) as pool:
        assert pool.map(nesting.streams, [100, 200]) == [sum(range(0, 200, 2)), sum(range(0, 400, 2))]
        assert pool.map(nesting.awaits, [100, 200]) == [sum(range(0, 200, 2)), sum(range(0, 400, 2))]
        assert pool.map(nesting.in_threads, [4, 4]) == [[0, 2, 4, 6]] * 2


# -------------------------------------------------------------------------------- what is left behind below


def test_a_pool_that_is_forgotten_below_ends_with_its_worker() -> None:
    with Pool(1, maxtasksperchild=1) as pool:
        kept = [nested for nested in pool.map(nesting.forget, range(3), chunksize=1) if nested]
        assert len(kept) == 3
        assert all(len(pids) == 3 for pids in kept), "a template and two workers"
        for pids in kept:
            all_leave(pids)


def test_a_pool_that_is_dropped_below_finishes_and_leaves() -> None:
    with Pool(1) as pool:
        assert pool.map(nesting.drop, range(5)) == [2 * i for i in range(5)]
        worker = pool.apply(calls.pid)
        wait_until(lambda: not started_by(worker), "the nested pools have left")


ENDINGS: dict[str, Callable[[Pool, nesting.Result, int], object]] = {
    "kill()": lambda pool, result, worker: result.kill(),
    "terminate()": lambda pool, result, worker: pool.terminate(),
    "SIGKILL": lambda pool, result, worker: os.kill(worker, signal.SIGKILL),
    "SIGSEGV": lambda pool, result, worker: os.kill(worker, signal.SIGSEGV),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_who_ends_a_worker_ends_all_below(gate: Gate, how: str) -> None:
    with Pool(1) as pool:
        worker = pool.apply(calls.pid)
        result = pool.submit(nesting.at_depth, 2, calls.spin, gate)
        standing = gate.reached()
        gate.open()
        in_a_loop(standing)
        below = started_by(worker)
        assert standing in below and len(below) == 4, "two templates, two workers"
        ENDINGS[how](pool, result, worker)
        error = result.exception(PATIENCE)
        assert isinstance(error, CallKilled | PoolTerminated | WorkerDied)
        all_leave(below)


def test_a_timeout_ends_all_below() -> None:
    with Pool(1, timeout=PATIENCE) as pool:
        below = pool.apply(nesting.forget, (1,))
        with pytest.raises(CallTimeout):
            next(pool.imap(nesting.wait_below, [None], timeout=0.05))
        all_leave(below)


PROGRAM = """
    import sys, threading
    from procoro import Pool
    from tests.gate import Turnstile
    from tests.promises import calls, nesting

    gate = Turnstile(sys.argv[2])
    pool = Pool(2)
    results = [pool.submit(nesting.at_depth, 2, getattr(calls, sys.argv[1]), gate) for _ in range(2)]
    results[0].get()
    """


def test_a_killed_program_takes_all_below_with_it(start: Start, gate: Gate) -> None:
    process = start(PROGRAM, "spin", gate.folder)
    standing = [gate.reached(), gate.reached()]
    gate.open(2)
    for pid in standing:
        in_a_loop(pid)
    family = started_by(process.pid)
    assert len(family) == 1 + 2 + 2 * 4
    process.kill()
    all_leave(family)


def test_a_killed_program_takes_all_below_with_it_whose_templates_had_died(start: Start, gate: Gate) -> None:
    process = start(PROGRAM, "stand", gate.folder)
    gate.reached(), gate.reached()
    family = started_by(process.pid)
    templates = {template(process.pid).pid, *(template(worker.pid).pid for worker in template(process.pid).children())}
    for pid in templates:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(map(gone, templates)), "the templates are dead")
    assert not all(map(gone, family))
    process.kill()
    all_leave(family)


def test_ctrl_c_is_the_programs_and_leaves_nothing(start: Start, gate: Gate) -> None:
    process = start(PROGRAM, "stand", gate.folder)
    gate.reached(), gate.reached()
    family = started_by(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert said.count("Traceback") == 1 and said.rstrip().endswith("KeyboardInterrupt"), said
    all_leave(family)


def test_a_module_that_makes_a_pool_as_it_is_imported_is_refused_in_words(script: Script, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        "import os\n"
        "from procoro import Pool\n"
        "os.environ['DEPTH'] = depth = str(int(os.environ.get('DEPTH', '0')) + 1)\n"
        "assert int(depth) < 12, 'endless'\n"
        "def f(x): return x + 1\n"
        "with Pool(1) as pool: found = pool.map(f, [1])\n"
    )
    out = script(
        """
        try:
            import module
        except RuntimeError as error:
            print("import" in str(error), "module" in str(error))
        """
    )
    assert out == "True True\n"


def test_a_pool_that_an_initializer_makes() -> None:
    with Pool(2, nesting.start_below) as pool:
        assert pool.map(nesting.use_below, range(6)) == [2 * i for i in range(6)]
        with pytest.raises(ProcoroError):
            pool.apply(nesting.use_below, (1, calls.kill_self))
        assert pool.map(nesting.use_below, range(6)) == [2 * i for i in range(6)]


# ------------------------------------------------------------------------- shared by threads and event loops


@pytest.fixture(scope="module")
def runs() -> list[Callable[..., object]]:
    """What runs event loops: asyncio's and, where it is installed, uvloop's, which keeps a pipe once it was used."""
    found: list[Callable[..., object]] = [asyncio.run, asyncio.run]
    if importlib.util.find_spec("uvloop") is not None:
        found += [importlib.import_module("uvloop").run] * 2
        found[-1](asyncio.sleep(0))
    return found


def test_event_loops_in_threads_share_a_pool(runs: list[Callable[..., object]]) -> None:
    """Each gets its own results, in its own thread."""

    async def use(pool: Pool, base: int) -> list[int]:
        here = threading.get_ident()
        found = await asyncio.gather(*(pool.submit(calls.double, base + i) for i in range(50)))
        found += [value async for value in pool.imap(calls.double, iter(range(base, base + 300)))]
        found += await pool.map_async(calls.double, range(base, base + 50))
        with pytest.raises(ValueError, match="no 3"):
            await pool.submit(calls.raise_if_3, 3)
        assert threading.get_ident() == here
        return found

    found: dict[int, object] = {}
    with Pool(2) as pool:
        threads = [
            threading.Thread(target=lambda run=run, n=n: found.update({n: run(use(pool, 1000 * n))}))
            for n, run in enumerate(runs)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    for n in range(len(runs)):
        assert found[n] == [2 * (1000 * n + i) for i in [*range(50), *range(300), *range(50)]]
