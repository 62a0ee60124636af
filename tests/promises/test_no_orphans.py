"""Promise 6: when the caller dies, by whatever cause, all it has started is gone within 2 s."""

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from procoro import Pool
from procoro.errors import PoolTerminated
from tests.gate import Gate
from tests.promises import calls
from tests.promises.conftest import Start
from tests.promises.looks import gone, in_a_loop, template, wait_until

SECONDS = 2.0

PROGRAM = """
import sys, threading
from procoro import Pool
from tests.gate import Turnstile
from tests.promises import calls

gate = Turnstile(sys.argv[2])
pool = Pool(2)
held = pool.submit(calls.big, 8).get()
results = [pool.submit(getattr(calls, sys.argv[1]), gate) for _ in range(2)]
stream = pool.imap(calls.double, iter(range(10**9)))
print("here", flush=True)
{}
"""
WAIT = "threading.Event().wait()"


def family(process: "subprocess.Popen[str]", workers: int = 2) -> list[int]:
    """The pids of a program's template and workers."""
    parent = template(process.pid)
    wait_until(lambda: len(parent.children()) == workers, "the workers are there")
    return [parent.pid, *(child.pid for child in parent.children())]


def all_leave(pids: list[int]) -> None:
    wait_until(lambda: all(map(gone, pids)), f"all gone, of {pids}", SECONDS)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGHUP])
def test_a_killed_parent_leaves_nothing(start: Start, gate: Gate, ending: signal.Signals) -> None:
    process = start(PROGRAM.format(WAIT), "stand", gate.folder)
    gate.reached(), gate.reached()
    pids = family(process)
    process.send_signal(ending)
    assert process.wait(SECONDS) == -ending
    all_leave(pids)


def test_a_killed_parent_leaves_no_worker_in_a_c_loop(start: Start, gate: Gate) -> None:
    process = start(PROGRAM.format(WAIT), "spin", gate.folder)
    busy = [gate.reached(), gate.reached()]
    gate.open(2)
    for pid in busy:
        in_a_loop(pid)
    pids = family(process)
    process.kill()
    all_leave(pids)


def test_a_parent_killed_after_its_template(start: Start, gate: Gate) -> None:
    process = start(PROGRAM.format(WAIT), "spin", gate.folder)
    busy = [gate.reached(), gate.reached()]
    gate.open(2)
    for pid in busy:
        in_a_loop(pid)
    pids = family(process)
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: gone(pids[0]), "the template is dead")
    assert not any(map(gone, busy))
    process.kill()
    all_leave(pids)


def test_a_parent_killed_while_its_workers_are_stopped(start: Start, gate: Gate) -> None:
    process = start(PROGRAM.format(WAIT), "stand", gate.folder)
    standing = [gate.reached(), gate.reached()]
    pids = family(process)
    for pid in standing:
        os.kill(pid, signal.SIGSTOP)
    process.kill()
    all_leave(pids)


def test_a_parent_killed_while_its_workers_start(start: Start) -> None:
    program = "from procoro import Pool\npools = [Pool(2) for _ in range(20)]\nprint('here', flush=True)\ninput()"
    process = start(program, stdin=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    pids = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    process.kill()
    all_leave(pids)  # and those that came later, the fixture sees


@pytest.mark.parametrize(
    "leave, status",
    [("", 0), ("sys.exit(3)", 3), ("raise ValueError", 1), ("os._exit(4)", 4)],
)
def test_a_parent_that_leaves_by_itself(start: Start, gate: Gate, leave: str, status: int) -> None:
    program = PROGRAM.format("import os\nsys.stdin.readline()\n" + leave)
    process = start(program, "spin", gate.folder, stdin=subprocess.PIPE)
    busy = [gate.reached(), gate.reached()]
    gate.open(2)
    for pid in busy:
        in_a_loop(pid)
    pids = family(process)
    process.communicate("\n", timeout=5)
    assert process.returncode == status
    all_leave(pids)


@pytest.mark.parametrize("whom", ["group", "parent"])
def test_ctrl_c_in_a_with_block_leaves_nothing(start: Start, gate: Gate, whom: str) -> None:
    process = start(
        """
        import sys
        from procoro import Pool
        from tests.gate import Turnstile
        from tests.promises import calls

        with Pool(2) as pool:
            pool.map(calls.stand, [Turnstile(sys.argv[1])] * 2)
        """,
        gate.folder,
    )
    gate.reached(), gate.reached()
    pids = family(process)
    if whom == "group":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=5)
    assert process.returncode == -signal.SIGINT
    assert said.count("Traceback") == 1 and said.rstrip().endswith("KeyboardInterrupt"), said
    all_leave(pids)


def test_ctrl_c_can_be_caught_and_the_pool_goes_on(start: Start, gate: Gate) -> None:
    process = start(
        """
        import sys
        from procoro import Pool
        from tests.gate import Turnstile
        from tests.promises import calls

        with Pool(2) as pool:
            result = pool.submit(calls.stand, Turnstile(sys.argv[1]), "value")
            try:
                result.get()
            except KeyboardInterrupt:
                print("caught", flush=True)
            print(result.get(), pool.map(calls.double, [1, 2]))
        """,
        gate.folder,
    )
    gate.reached()
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout is not None and process.stdout.readline() == "caught\n"
    gate.open()
    out, said = process.communicate(timeout=5)
    assert (process.returncode, out, said) == (0, "value [2, 4]\n", "")


@pytest.mark.parametrize("forgets", ["pool = Pool(2); pool.submit(abs, -1)", "Pool(2).submit(abs, -1)", "Pool(2)"])
def test_a_forgotten_pool_does_not_hold_the_program(start: Start, forgets: str) -> None:
    process = start(f"from procoro import Pool\n{forgets}\nprint('done')")
    assert process.communicate(timeout=5) == ("done\n", "")
    assert process.returncode == 0


def test_a_pool_that_raises_within_leaves_nothing(gate: Gate) -> None:
    results = []

    def work() -> None:
        with Pool(2) as pool:
            results.extend(pool.submit(calls.stand, gate) for _ in range(10))
            gate.reached(), gate.reached()
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        work()
    for result in results:
        assert isinstance(result.exception(0), PoolTerminated)


def test_a_dropped_pool_finishes_what_it_was_given(tmp_path: Path) -> None:
    path = str(tmp_path / "notes")
    results = [Pool(1).submit(calls.note, path) for _ in range(3)]
    for result in results:
        assert 1 <= result.get(10) <= 3  # each has counted after its own mark: two at once may both have seen two
    assert Path(path).read_bytes() == b"..."
