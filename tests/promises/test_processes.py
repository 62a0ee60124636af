"""A process of its own: as `multiprocessing.Process`, and its outcome comes back."""

import asyncio
import gc
import logging
import multiprocessing.connection
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from procoro import Pool, Process, active_children, current_process, errors, parent_process
from procoro.crank import Crank
from procoro.engines.template import TemplateProcess
from procoro.wire import channel
from tests.gate import Gate
from tests.promises import alone, calls
from tests.promises.conftest import Script, Start
from tests.promises.looks import PATIENCE, gone, in_a_loop, template, wait_until

pytestmark = pytest.mark.usefixtures("lingering")  # one process after another has one template

SECONDS = 2.0  # in which nothing is left of a program that was killed


def started(target: Callable[..., Any] | None, *args: Any, **options: Any) -> Process:
    process = Process(target=target, args=args, **options)
    process.start()
    return process


# ------------------------------------------------------------------------------------------- one process


def test_its_life(gate: Gate) -> None:
    process = Process(None, calls.stand, "Ada", (gate,), {"value": 3}, daemon=False)
    assert (process.pid, process.ident, process.exitcode, process.is_alive()) == (None, None, None, False)
    assert repr(process) == f"<Process name='Ada' parent={os.getpid()} initial>"
    process.start()
    pid = gate.reached()
    assert (process.pid, process.ident, process.exitcode, process.is_alive()) == (pid, pid, None, True)
    assert repr(process) == f"<Process name='Ada' pid={pid} parent={os.getpid()} started>"
    process.join(0.01)
    assert active_children() == [process]
    gate.open()
    process.join()
    assert (process.pid, process.exitcode, process.is_alive(), active_children()) == (pid, 0, False, [])
    assert repr(process) == f"<Process name='Ada' pid={pid} parent={os.getpid()} stopped exitcode=0>"
    assert process.result() == process.result(0) == 3
    process.close()
    process.close()
    assert repr(process) == f"<Process name='Ada' parent={os.getpid()} closed>"


class Word(str):
    """A str that needs this module to be unpickled."""


class Unheard(UserWarning):
    """A warning of one's own."""


def looks_around() -> Any:
    mask = os.umask(0)
    return (
        os.environ.get("PROCORO_TEST"),
        os.getcwd(),
        mask,
        sys.argv[-1],
        sys.path[-1],
        sys.getrecursionlimit(),
        any(one[2] is Unheard for one in warnings.filters),
        os.sched_getaffinity(0),
        sys.modules["__main__"].__doc__,
    )


def test_each_has_the_state_that_its_caller_has_when_it_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with warnings.catch_warnings():  # the filters are put back
        before = looks_around()
        os.umask(before[2])
        assert started(looks_around).result() == before
        here = template()
        monkeypatch.setenv("PROCORO_TEST", "1")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [*sys.argv, "first"])
        monkeypatch.syspath_prepend(str(tmp_path))
        sys.path.append("/no/such/first")
        os.umask(0o27)
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})
        sys.setrecursionlimit(before[5] + 7)
        try:
            assert started(looks_around).result() == looks_around()
            os.umask(0o27)
            warnings.simplefilter("ignore", Unheard)  # what the template must not import
            monkeypatch.setattr(sys, "argv", [*sys.argv, Word("second")])
            there = started(looks_around).result()
            assert (there, type(there[3])) == (looks_around(), Word)
            assert there[0] == "1" and there[-3] and there[-2] == {max(cores)}
        finally:
            os.sched_setaffinity(0, cores)
            os.umask(before[2])
            sys.path.remove("/no/such/first")
            sys.setrecursionlimit(before[5])
        monkeypatch.delenv("PROCORO_TEST")
    assert started(looks_around).result()[0] is None
    assert template() == here


def test_a_directory_that_was_made_anew_is_the_new_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for number in range(3):
        folder.mkdir()
        (folder / str(number)).touch()
        monkeypatch.chdir(folder)
        assert started(os.listdir).result() == [str(number)]
        monkeypatch.chdir(tmp_path)
        (folder / str(number)).unlink()
        folder.rmdir()


def test_it_is_another_process_each_time() -> None:
    pids = {started(os.getpid).result(PATIENCE) for _ in range(3)}
    assert len(pids) == 3 and os.getpid() not in pids


def test_without_a_target_it_does_nothing() -> None:
    process = started(None)
    assert (process.result(PATIENCE), process.exitcode) == (None, 0)


def test_names_are_counted() -> None:
    first, second = Process(), Process()
    assert int(second.name.removeprefix("Process-")) == int(first.name.removeprefix("Process-")) + 1
    assert alone.Later().name.startswith("Later-")
    (_, inner), outer = started(alone.values_of, alone.values_of, abs, 1).result(PATIENCE)
    assert (inner, outer.count(":")) == (f"{outer}:1", 1)


def test_a_subclass_runs_its_run() -> None:
    process = alone.Doubles(21)
    process.start()
    assert process.result(PATIENCE) == (42, True, True, True, "doubles")
    assert process.number == 21, "it was a copy that ran"


def test_async_targets() -> None:
    assert started(calls.double_async, 4).result(PATIENCE) == 8
    process = alone.Later(name="later")
    process.start()
    assert process.result(PATIENCE) == "later"


def test_large_arguments_and_results() -> None:
    assert started(calls.length, bytes(5_000_000)).result(PATIENCE) == 5_000_000
    assert len(started(calls.big, 8).result(PATIENCE)) == 8 << 20
    numpy = pytest.importorskip("numpy")
    array = started(numpy.arange, 1_000_000).result(PATIENCE)
    array += 1
    assert array[-1] == 1_000_000


def test_what_is_handed_over_is_what_it_was_at_the_start(gate: Gate) -> None:
    given = [1]
    process = started(calls.stand, gate, given)
    gate.reached()
    given.append(2)
    gate.open()
    assert process.result(PATIENCE) == [1]


# --------------------------------------------------------------------------------------- how it can end


def test_an_exception_comes_back_with_its_traceback() -> None:
    process = started(calls.raise_if_3, 3)
    with pytest.raises(ValueError, match="3") as caught:
        process.result(PATIENCE)
    (note,) = caught.value.__notes__
    assert "in raise_if_3" in note and str(process.pid) in note and "procoro/worker" not in note
    call = errors.failed_call(caught.value)
    assert call is not None and (call.function, call.input, call.pid) == ("raise_if_3", "3", process.pid)
    assert process.exitcode == 1


@pytest.mark.parametrize(
    "code, exitcode", [(None, 0), (0, 0), (3, 3), (-1, 255), (256 + 7, 7), (True, 1), ("words", 1), ((1, 2), 1)]
)
def test_exit_codes(capfd: pytest.CaptureFixture[str], code: Any, exitcode: int) -> None:
    process = started(alone.leave, code)
    with pytest.raises(SystemExit) as caught:
        process.result(PATIENCE)
    assert (caught.value.code, process.exitcode) == (code, exitcode)
    assert capfd.readouterr().err == ("" if code is None or isinstance(code, int) else f"{code}\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_death_has_a_name(number: signal.Signals) -> None:
    process = started(alone.kill_self, number, name="Ada")
    with pytest.raises(errors.WorkerDied) as caught:
        process.result(PATIENCE)
    assert str(caught.value) == f"Ada, kill_self({number!r}): worker {process.pid} was killed by {number.name}"
    assert (caught.value.pid, caught.value.exitcode, process.exitcode) == (process.pid, -number, -number)


def test_it_leaves_unseen() -> None:
    process = started(os._exit, 3)
    with pytest.raises(errors.WorkerDied, match=r"_exit\(3\): worker \d+ left with exit code 3"):
        process.result(PATIENCE)
    assert process.exitcode == 3


def test_terminate_and_kill(gate: Gate) -> None:
    for end, number in ((Process.terminate, signal.SIGTERM), (Process.kill, signal.SIGKILL)):
        process = started(calls.spin, gate)
        gate.reached()
        gate.open()
        end(process)
        process.join()
        assert process.exitcode == -number
        end(process)  # of one that has ended: nothing


def test_signals_mean_what_they_mean_to_any_program() -> None:
    assert started(alone.signals).result(PATIENCE) == (signal.SIG_DFL, True)
    assert started(alone.interrupt_self).result(PATIENCE) == "interrupted"


def test_a_value_that_cannot_travel_harms_only_who_asks() -> None:
    process = started(threading.Lock)
    process.join()
    assert process.exitcode == 0
    with pytest.raises(errors.NotPicklable, match="Lock"):
        process.result()


def test_a_value_that_cannot_be_rebuilt() -> None:
    process = started(calls.bomb_if_3, 3)
    with pytest.raises(errors.ResultNotUnpicklable, match="bomb_if_3"):
        process.result(PATIENCE)


def test_a_copy_that_it_forks_does_not_speak_for_it() -> None:
    process = started(alone.fork_and_return)
    assert process.result(PATIENCE) == process.pid


def test_it_ends_when_its_threads_have(gate: Gate, tmp_path: Path) -> None:
    process = started(alone.thread_outlives, gate, str(tmp_path / "ended"))
    gate.reached()
    process.join(0.3)
    assert process.is_alive()
    gate.open()
    assert process.result(PATIENCE) == "returned" and (tmp_path / "ended").exists()


def test_one_that_closes_all_descriptors_has_no_outcome(tmp_path: Path) -> None:
    process = started(alone.close_all, str(tmp_path / "heard"))
    with pytest.raises(errors.WorkerDied, match="left with exit code 0"):
        process.result(PATIENCE)
    assert (tmp_path / "heard").read_text() == "0"


def test_a_killed_template_takes_nobody_along(gate: Gate) -> None:
    value, death = started(calls.stand, gate, 5), started(calls.stand, gate)
    pids = {gate.reached(), gate.reached()}
    assert pids == {value.pid, death.pid}
    os.kill(template().pid, signal.SIGKILL)
    assert started(calls.double, 4).result(PATIENCE) == 8, "from another one"
    death.kill()
    with pytest.raises(errors.WorkerDied, match="how it ended is not known"):
        death.result(PATIENCE)
    gate.open()
    assert value.result(PATIENCE) == 5
    assert (value.exitcode, death.exitcode) == (0, 255), "what nobody could learn, as in multiprocessing"


def test_a_template_that_is_found_dead_while_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that asks hears of it a moment after procoro's own."""
    assert started(calls.double, 1).result(PATIENCE) == 2
    asked, send, go_on = TemplateProcess._current[False], channel.send, threading.Event()

    def send_late(*args: Any) -> None:
        try:
            send(*args)
        except OSError:
            go_on.set()
            wait_until(lambda: not asked._waiting, "procoro's thread has found it")
            raise

    monkeypatch.setattr(channel, "send", send_late)
    crank = Crank._current
    assert crank is not None
    crank.post(lambda: go_on.wait(PATIENCE))
    killed = template()
    killed.kill()
    wait_until(lambda: killed.status() == psutil.STATUS_ZOMBIE, "it is dead")
    assert started(calls.double, 2).result(PATIENCE) == 4, "from another one"


def test_a_template_that_is_killed_while_a_start_waits_for_it() -> None:
    assert started(calls.double, 1).result() == 2
    stopped, values = template(), []
    stopped.suspend()
    starting = [threading.Thread(target=lambda: values.append(started(calls.double, 4).result())) for _ in range(4)]
    for thread in starting:
        thread.start()
    wait_until(lambda: len(active_children()) == 0 and all(map(waits_for_a_template, starting)), "they wait for it")
    stopped.kill()
    for thread in starting:
        thread.join(PATIENCE)
    assert values == [8] * 4, "from another one"


def waits_for_a_template(thread: threading.Thread) -> bool:
    stack = traceback.extract_stack(sys._current_frames().get(thread.ident or 0))
    return any(frame.name == "begin" for frame in stack)


@pytest.mark.parametrize("seed", range(3))
def test_templates_killed_at_random_moments(seed: int) -> None:
    chance, wrong = random.Random(seed), []

    def start_some() -> None:
        for number in range(25):
            try:
                value = started(calls.double, number).result(PATIENCE)
            except ChildProcessError:  # three templates in turn were killed
                continue
            if value != 2 * number:
                wrong.append(value)

    threads = [threading.Thread(target=start_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(chance.uniform(0, 0.1))
        try:
            template().kill()
        except (ValueError, psutil.NoSuchProcess):  # there is none just now, or two
            pass
    assert wrong == [] and active_children() == []


def test_threads_start_in_different_states() -> None:
    def state_and_start(number: int) -> tuple[str | None, str]:
        with turn:  # what a thread has set is there when it starts, and others start meanwhile
            os.environ[VARIABLE] = str(number)
            process = started(os.environ.get, VARIABLE)
        return process.result(), str(number)

    turn = threading.Lock()
    others = threading.Thread(target=lambda: [started(calls.double, 1).result() for _ in range(20)])
    others.start()
    with ThreadPoolExecutor(4) as executor:
        told = list(executor.map(state_and_start, range(40)))
    others.join()
    del os.environ[VARIABLE]
    assert all(there == here for there, here in told)


VARIABLE = "PROCORO_TEST"


# ---------------------------------------------------------------------------------------------- waiting


def test_waiting_gives_up(gate: Gate) -> None:
    process = started(calls.stand, gate, 5)
    gate.reached()
    process.join(0)
    process.join(-1)
    with pytest.raises(errors.WaitTimeout, match=f"{process.name} has not ended within 0.01 s"):
        process.result(0.01)
    gate.open()
    assert process.result(PATIENCE) == 5


def test_await(gate: Gate) -> None:
    async def main() -> None:
        one, other = started(calls.stand, gate, 5), started(calls.raise_if_3, 3)
        with pytest.raises(ValueError, match="3"):
            await other
        await one.ajoin(0.01)
        assert one.is_alive()
        waiting = asyncio.ensure_future(one.ajoin())
        await asyncio.sleep(0)
        gate.reached()
        gate.open()
        assert await one == 5
        await waiting
        assert await one == 5 and await one.ajoin() is None

    asyncio.run(main())


def test_await_many() -> None:
    async def awaited(process: Process) -> Any:
        return await process

    async def main() -> list[Any]:
        return await asyncio.gather(*(awaited(started(calls.double_async, i)) for i in range(10)))

    assert asyncio.run(main()) == [2 * i for i in range(10)]


def test_a_task_that_is_cancelled_does_not_harm_it(gate: Gate) -> None:
    process = started(calls.stand, gate, 5)
    gate.reached()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.ajoin(), 0.01)

    asyncio.run(main())
    gate.open()
    assert process.result(PATIENCE) == 5


def test_await_in_uvloop(script: Script) -> None:
    pytest.importorskip("uvloop")
    said = script(
        """
        import asyncio, uvloop
        from procoro import Process
        async def main():
            process = Process(target=abs, args=(-4,))
            process.start()
            await process.ajoin()
            return await process
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(runner.run(main()))
        """
    )
    assert said == "4\n"


def test_many_threads_wait(gate: Gate) -> None:
    process = started(calls.stand, gate, 5)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(process.result(PATIENCE))) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.reached()
    gate.open()
    for thread in threads:
        thread.join()
    assert found == [5] * 8


def test_its_sentinel(gate: Gate) -> None:
    process = started(calls.stand, gate)
    gate.reached()
    assert multiprocessing.connection.wait([process.sentinel], 0) == []
    gate.open()
    assert multiprocessing.connection.wait([process.sentinel], PATIENCE) == [process.sentinel]
    process.join()
    assert multiprocessing.connection.wait([process.sentinel], PATIENCE) == [process.sentinel]


def test_a_callback_must_not_wait_for_it(gate: Gate) -> None:
    process, said = started(calls.stand, gate), []

    def callback(_: object) -> None:
        for waits in (process.join, process.result, Process(target=abs, args=(1,)).start):
            try:
                waits()
            except RuntimeError as error:
                said.append("callbacks run in procoro's own thread" in str(error))

    with Pool(1) as pool:
        pool.apply_async(abs, (1,), callback=callback).get(PATIENCE)
        wait_until(lambda: len(said) == 3, "the callback has run")
    assert all(said) and active_children() == [process]
    gate.open()
    process.join()


def test_a_thread_with_the_number_of_procoros_own_may_wait() -> None:
    with Pool(1) as pool:
        own = pool._conductor.crank.thread
        pool.close()
        pool.join()
    number, numbers, refused = own.ident, [], []
    wait_until(lambda: not own.is_alive(), "it has gone")

    def again() -> None:
        numbers.append(threading.get_ident())
        try:
            pool.join()
        except RuntimeError as error:
            refused.append(error)

    for _ in range(20):
        thread = threading.Thread(target=again)
        thread.start()
        thread.join()
    assert refused == []
    if number not in numbers:
        pytest.skip("no other thread got its number")


def test_what_a_thread_does_while_it_goes_is_done(tmp_path: Path) -> None:
    def leave() -> None:
        class Slow:
            def __del__(self) -> None:
                time.sleep(0.3)
                (tmp_path / "done").write_text("done")

        def live() -> None:
            local.slow = Slow()
            lives.set()

        local, lives = threading.local(), threading.Event()
        threading.Thread(target=live).start()
        lives.wait()
        while threading.active_count() > 1:
            time.sleep(0.001)

    process = started(leave)
    process.join(PATIENCE)
    assert process.exitcode == 0 and (tmp_path / "done").read_text() == "done"


def test_a_death_behind_a_stopped_template_that_a_grandchild_hides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps the connection open, so that the end is not seen there."""
    monkeypatch.setattr("procoro.engines.process.UNTOLD", 0.3)

    def fork_and_stand() -> None:
        pid = os.fork()
        if not pid:
            time.sleep(PATIENCE)
            os._exit(0)
        (tmp_path / "pid").write_text(f"{pid} ")
        time.sleep(PATIENCE)

    process = started(fork_and_stand)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith(" "), "it has forked")
    stopped = template()
    stopped.suspend()
    try:
        process.kill()
        process.join(PATIENCE)
        assert not process.is_alive()
    finally:
        stopped.resume()
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_its_end_is_told_at_once_though_the_template_has_died_behind_its_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("procoro.engines.process.UNTOLD", PATIENCE)

    def stay() -> int:
        threading.Thread(target=time.sleep, args=(1.0,)).start()
        return 5

    process = started(stay)
    assert process._child is not None
    wait_until(lambda: process._child.outcome is not None, "it has returned")  # type: ignore[union-attr]
    template().kill()
    began = time.monotonic()
    process.join(PATIENCE)
    assert not process.is_alive() and time.monotonic() - began < PATIENCE / 2


# --------------------------------------------------------------------------------------- what is refused


def test_words_of_multiprocessing(gate: Gate) -> None:
    process = Process(target=calls.stand, args=(gate,))
    for refused, words in [
        (lambda: Process(1), "group argument must be None for now"),  # type: ignore[arg-type]
        (process.join, "can only join a started process"),
        (process.result, "can only ask a started process"),
        (process.terminate, "can only terminate a started process"),
        (lambda: setattr(process, "name", 3), "name must be a string"),
    ]:
        with pytest.raises(AssertionError, match=words):
            refused()
    with pytest.raises(ValueError, match="process not started"):
        _ = process.sentinel
    with pytest.raises(TypeError, match="target must be a callable"):
        Process(target=3)  # type: ignore[arg-type]
    process.daemon = True
    process.start()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    with pytest.raises(AssertionError, match="process has already started"):
        process.daemon = False
    with pytest.raises(ValueError, match=r"while it is still running. You should first call join\(\) or terminate\(\)"):
        process.close()
    gate.reached()
    gate.open()
    process.join()
    process.close()
    for closed in (process.join, process.is_alive, process.result, lambda: process.exitcode, lambda: process.pid):
        with pytest.raises(ValueError, match="process object is closed"):
            closed()


def test_what_cannot_travel_is_named() -> None:
    with pytest.raises(errors.NotPicklable, match=r"args\[1\].*Lock"):
        started(print, 1, threading.Lock())
    with Pool(1) as pool, pytest.raises(errors.NotPicklable, match=r"args\[0\].*a Process lives in the program that"):
        pool.submit(print, Process())
    with pytest.raises(TypeError, match="a Process lives in the program that made it"):
        pickle.dumps(Process())
    process = alone.Doubles(threading.Lock())  # type: ignore[arg-type]
    with pytest.raises(errors.NotPicklable, match=r"self.number.*Lock"):
        process.start()
    process.number = 4
    process.start()  # what was refused can be put right
    assert process.result(PATIENCE)[0] == 8


def test_a_forked_child_has_no_part_in_it(script: Script) -> None:
    said = script(
        """
        import os, threading, time, warnings
        from procoro import Process, active_children
        warnings.simplefilter("ignore")
        thread = threading.Thread(target=time.sleep, args=(1,))
        thread.start()
        process, new = Process(target=time.sleep, args=(0.5,)), Process(target=abs, args=(1,))
        process.start()
        if (child := os.fork()) == 0:
            for call in (process.is_alive, process.join, process.result, process.terminate, new.start):
                try:
                    call()
                except AssertionError as error:
                    print(error, flush=True)
            own = Process(target=abs, args=(-3,))
            own.start()
            print(own.result(), active_children(), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(process.is_alive(), process.result(), process.exitcode)
        """
    )
    assert said.splitlines() == [
        "can only test a child process",
        "can only join a child process",
        "can only ask a child process",
        "can only terminate a child process",
        "can only start a process object created by current process",
        "3 []",
        "True None 0",
    ]


def test_without_a_descriptor(script: Script) -> None:
    """At each number of free descriptors, `start` works or says that there is none; nothing is kept or left."""
    said = script(
        """
        import os, resource, time
        from procoro import Process, active_children
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

        def exhaust():
            kept = []
            try:
                while True:
                    kept.append(os.dup(0))
            except OSError:
                return kept

        def held():
            return len(os.listdir("/proc/self/fd"))

        first = Process(target=abs, args=(-1,))
        first.start()
        print(first.result())
        words = set()
        for warm in (True, False):
            for free in range(14):
                if not warm:
                    time.sleep(0.4)  # the template leaves
                process, kept = Process(target=abs, args=(-7,), name="p"), exhaust()
                for _ in range(free):
                    os.close(kept.pop())
                try:
                    process.start()
                    words.add(process.result())
                except OSError as error:
                    words.add(str(error))
                finally:
                    for fd in kept:
                        os.close(fd)
                del process
        print(sorted(map(str, words)), active_children())
        time.sleep(1)
        print(held())
        """
    )
    one, words, last = said.splitlines()
    assert one == "1"
    assert words == "['7', '[Errno 24] Too many open files: p was not started'] []"
    assert int(last) <= 6, "the three streams, the listing, and the sentinel of the first"


# --------------------------------------------------------------------------------------------- who is who


def test_who_is_who_in_the_main_process() -> None:
    assert (current_process().name, current_process().pid, current_process().daemon) == (
        "MainProcess",
        os.getpid(),
        False,
    )
    assert current_process() is current_process() and current_process().is_alive()
    assert parent_process() is None
    with pytest.raises(AssertionError, match="can only start a process object created by current process"):
        current_process().start()


@pytest.mark.parametrize("daemon", [False, True])
def test_who_is_who_in_a_process(daemon: bool) -> None:
    key = current_process().authkey
    process = started(alone.who, name="Ada", daemon=daemon)
    assert process.result(PATIENCE) == {
        "name": "Ada",
        "pid": True,
        "daemon": daemon,
        "authkey": key,
        "alive": True,
        "children": [],
        "parent": "MainProcess",
        "parent_pid": os.getpid(),
        "parent_lives": True,
        "parent_joined": None,
    }


def test_who_is_who_in_a_worker() -> None:
    with Pool(1) as pool:
        found = pool.apply(alone.who)
    assert found["name"].startswith("PoolWorker-") and found["daemon"] and found["pid"]
    assert (found["parent"], found["parent_pid"]) == ("MainProcess", os.getpid())


def test_an_own_authkey() -> None:
    process = Process(target=alone.who)
    process.authkey = b"sesame"
    process.start()
    assert process.result(PATIENCE)["authkey"] == b"sesame" != current_process().authkey


def test_a_child_inherits_daemon() -> None:
    found, _ = started(alone.values_of, alone.who, daemon=True).result(PATIENCE)
    assert found["daemon"], "and may have children all the same"


# --------------------------------------------------------------------------------- within each other, many


def test_within_each_other() -> None:
    assert started(alone.values_of, alone.values_of, abs, -4).result(PATIENCE)[0][0] == 4
    assert started(alone.in_a_pool, [1, 2, 3], daemon=True).result(PATIENCE) == [2, 4, 6]
    with Pool(1) as pool:
        assert pool.apply(alone.values_of, (abs, -4))[0] == 4
        assert pool.apply(calls.double, (4,)) == 8


def test_100_at_once(gate: Gate) -> None:
    """Idle ones cost two descriptors each, and no thread."""
    first = started(calls.stand, gate, 0)
    gate.reached()
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    more = [started(calls.stand, gate, i) for i in range(1, 100)]
    for _ in more:
        gate.reached()
    assert len(active_children()) == 100
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors + 2 * len(more)
    gate.open(100)
    assert [process.result(PATIENCE) for process in (first, *more)] == list(range(100))
    assert len(os.listdir("/proc/self/fd")) == descriptors - 1 + len(more)
    for process in more:
        process.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors - 1


def test_idle_ones_are_not_looked_at(gate: Gate) -> None:
    processes = [started(calls.stand, gate) for _ in range(5)]
    for _ in processes:
        gate.reached()
    spent = time.process_time()
    threading.Event().wait(1.0)
    assert time.process_time() - spent < 0.05
    gate.open(5)
    for process in processes:
        process.join()


def test_one_after_another_shares_the_template() -> None:
    pids = set()
    for _ in range(5):
        process = started(os.getppid)
        pids.add(process.result(PATIENCE))
    assert len(pids) == 1


def test_dropping_a_handle_changes_nothing(gate: Gate, tmp_path: Path) -> None:
    started(alone.thread_outlives, gate, str(tmp_path / "ended"))
    gate.reached()
    gc.collect()
    assert len(active_children()) == 1
    gate.open()
    wait_until((tmp_path / "ended").exists, "it has run to its end")


def test_one_that_has_ended_is_held_by_nobody() -> None:
    process = started(calls.double, 4)
    process.join()
    there = weakref.ref(process)
    del process
    wait_until(lambda: there() is None or gc.collect(), "it is gone") if there() is not None else None
    assert there() is None


def test_its_log_records_reach_our_handlers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        started(alone.log, "heed me").result(PATIENCE)
    assert [record.getMessage() for record in caplog.records] == ["heed me"]


# ---------------------------------------------------------------------------------------------- programs


def test_main_needs_no_guard(script: Script) -> None:
    said = script(
        """
        from procoro import Process
        base = 10
        class Adds(Process):
            def __init__(self, n):
                Process.__init__(self)
                self.n = n
            def run(self): return add(self.n)
        def add(n): return base + n
        def show(n): print("child", n + base)
        async def later(n): return add(n)
        def result(process):
            process.start()
            return process.result(10)
        k = 5
        print(result(Process(target=add, args=(1,))), result(Adds(2)), result(Process(target=later, args=(3,))))
        print(result(Process(target=lambda: add(k))))
        base = 20
        print(result(Process(target=add, args=(1,))))
        seen = []
        def count(): return len(seen)
        for _ in range(3):
            seen.append(1)
            print(result(Process(target=count)))
        """
    )
    assert said == "11 12 13\n15\n21\n1\n2\n3\n"


def test_ten_sleepers_end_in_about_one_sleep(script: Script) -> None:
    began = time.monotonic()
    said = script(
        """
        import time
        from procoro import Process
        def son(i):
            time.sleep(1)
            print("son", i)
        for i in range(10):
            Process(target=son, args=(i,)).start()
        """
    )
    assert sorted(said.splitlines()) == [f"son {i}" for i in range(10)], "each is joined at exit"
    assert time.monotonic() - began < 6


def test_100_lines_and_none_is_torn(script: Script) -> None:
    said = script(
        """
        from procoro import Process
        def show(i): print("line", i, "x" * 2000, "end")
        for i in range(100):
            Process(target=show, args=(i,)).start()
        """
    )
    assert sorted(said.splitlines()) == sorted(f"line {i} {'x' * 2000} end" for i in range(100))


def test_daemons_are_terminated_at_exit(start: Start, gate: Gate) -> None:
    process = start(
        """
        import sys
        from procoro import Process
        from tests.gate import Turnstile
        from tests.promises import calls
        gate = Turnstile(sys.argv[1])
        for _ in range(2):
            Process(target=calls.stand, args=(gate,), daemon=True).start()
        gate.pass_through()
        """,
        gate.folder,
    )
    pids = [gate.reached() for _ in range(3)]
    gate.close()
    assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 0
    wait_until(lambda: all(map(gone, pids)), "all gone", SECONDS)


def test_daemons_are_terminated_before_others_are_joined(script: Script) -> None:
    said = script(
        """
        import os, time
        from procoro import Process
        def outlives(pid):
            while os.path.exists(f"/proc/{pid}"):
                time.sleep(0.01)
            print("it is gone")
        daemon = Process(target=time.sleep, args=(1000,), daemon=True)
        daemon.start()
        Process(target=outlives, args=(daemon.pid,)).start()
        """
    )
    assert said == "it is gone\n"


DAEMON = """
    import signal, sys, time
    from procoro import Process
    def stubborn():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("here", flush=True)
        while True: pass
    Process(target=stubborn, daemon=True).start()
    time.sleep(0.5)
    """


def test_a_stubborn_daemon_is_killed(script: Script) -> None:
    assert script(DAEMON) == "here\n"


def test_processes_of_a_process_are_joined_at_its_end(script: Script) -> None:
    said = script(
        """
        import time
        from procoro import Process
        def inner():
            time.sleep(0.3)
            print("inner")
        def outer():
            Process(target=inner).start()
        process = Process(target=outer)
        process.start()
        process.join()
        print("outer")
        """
    )
    assert said == "inner\nouter\n"


@pytest.mark.parametrize("nobody", ["process.join()", "", "del process"])
def test_an_exception_that_nobody_asks_for_is_printed(start: Start, nobody: str) -> None:
    process = start(
        f"""
        from procoro import Process
        def fails(): raise ValueError("odd")
        process = Process(target=fails, name="Ada")
        process.start()
        {nobody}
        """
    )
    out, said = process.communicate(timeout=PATIENCE)
    assert (out, process.returncode) == ("", 0)
    lines = said.splitlines()
    assert lines[:2] == ["Process Ada:", "Traceback (most recent call last):"] and lines[-1] == "ValueError: odd"
    assert "procoro/worker" not in said and "in fails" in said


def test_an_exception_that_is_asked_for_is_not(script: Script) -> None:
    said = script(
        """
        import asyncio, time
        from procoro import Process
        def fails():
            time.sleep(0.2)
            raise ValueError("odd")
        async def main():
            process = Process(target=fails)
            process.start()
            await process
        process = Process(target=fails)
        process.start()
        for ask in (process.result, lambda: asyncio.run(main())):
            try:
                ask()
            except ValueError as error:
                print(error)
        """
    )
    assert said == "odd\nodd\n"


FAMILY = """
    import sys, threading, time
    from procoro import Pool, Process
    from tests.gate import Turnstile
    from tests.promises import alone, calls
    gate = Turnstile(sys.argv[1])
    for target, args in [
        (calls.stand, (gate,)), (calls.spin, (gate,)), (alone.values_of, (calls.stand, gate)), (alone.leave, (0,))
    ]:
        Process(target=target, args=args).start()
    print("here", flush=True)
    %s
    """


def family(process: Any, gate: Gate) -> list[int]:
    """All that a program has started, once they stand where they should: a stander, a spinner, a grandchild."""
    assert process.stdout.readline() == "here\n"
    spinner = [gate.reached() for _ in range(3)]
    pids = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert set(spinner) <= set(pids) and len(pids) >= 5
    return pids


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_killed_parent_leaves_nothing(start: Start, gate: Gate, ending: signal.Signals) -> None:
    process = start(FAMILY % "threading.Event().wait()", gate.folder)
    pids = family(process, gate)
    process.send_signal(ending)
    assert process.wait(PATIENCE) == -ending
    wait_until(lambda: all(map(gone, pids)), "all gone", SECONDS)


def test_a_killed_parent_leaves_no_process_in_a_c_loop(start: Start, gate: Gate) -> None:
    process = start(
        """
        import sys, threading
        from procoro import Process
        from tests.gate import Turnstile
        from tests.promises import calls
        Process(target=calls.spin, args=(Turnstile(sys.argv[1]),)).start()
        threading.Event().wait()
        """,
        gate.folder,
    )
    pid = gate.reached()
    gate.open()
    in_a_loop(pid)
    process.kill()
    process.wait()
    wait_until(lambda: gone(pid), "it is gone", SECONDS)


def test_ctrl_c_in_a_join(start: Start, gate: Gate) -> None:
    """The terminal's reaches all: the join raises, and each child ends in its own KeyboardInterrupt."""
    process = start(
        """
        import sys
        from procoro import Process
        from tests.gate import Turnstile
        def waits(gate): gate.pass_through()
        process = Process(target=waits, args=(Turnstile(sys.argv[1]),), name="Ada")
        process.start()
        process.join()
        """,
        gate.folder,
    )
    pids = [gate.reached(), *(child.pid for child in psutil.Process(process.pid).children())]
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGINT
    assert (
        said.count("Process Ada:\n") == 1 and said.count("\nKeyboardInterrupt\n") == 2 and said.count("Traceback") == 2
    )
    wait_until(lambda: all(map(gone, pids)), "all gone", SECONDS)


def test_who_ignores_ctrl_c_has_children_that_do(script: Script) -> None:
    """As a program in the background of a shell without job control."""
    said = script(
        """
        import os, signal
        from procoro import Process
        def interrupted():
            os.kill(os.getpid(), signal.SIGINT)
            return 8
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        process = Process(target=interrupted)
        process.start()
        print(process.result(), process.exitcode)
        """
    )
    assert said == "8 0\n"


def test_an_interrupt_of_the_parent_alone_once_and_twice(start: Start, gate: Gate) -> None:
    """Once: it still waits for its processes, as at any end. Twice: they are terminated."""
    process = start(FAMILY % "threading.Event().wait()", gate.folder)
    pids = family(process, gate)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while process.stderr.readline() != "KeyboardInterrupt\n":
        assert process.poll() is None
    assert process.poll() is None and not any(map(gone, pids[:1]))

    def ended() -> bool:
        process.send_signal(signal.SIGINT)  # one that comes before the join has begun is lost on the way to the exit
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            return False
        return True

    wait_until(ended, "the program has ended")
    _, said = process.communicate(timeout=PATIENCE)
    assert "KeyboardInterrupt" in said and "bug in procoro" not in said, said
    wait_until(lambda: all(map(gone, pids)), "all gone", SECONDS)


def test_what_our_threads_hold_nobody_waits_for_there() -> None:
    """It is no fork of this process."""
    with alone.lock:
        assert started(alone.take_lock).result(PATIENCE)


LIFE = """
    import threading
    from procoro import Process
    print("here", flush=True)
    for i in range(20):
        processes = [Process(target=abs, args=(i,), daemon=i % 2 == 0) for _ in range(3)]
        for process in processes:
            process.start()
        print(*(process.result() for process in processes), file=open("/dev/null", "w"))
    print("done")
    """


@pytest.mark.parametrize("seed", range(12))
def test_ctrl_c_at_random_moments(start: Start, seed: int) -> None:
    chance = random.Random(seed)
    process = start(LIFE, flags=("-W", "ignore", "script_0.py"))
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    for _ in range(1 + seed % 2):
        threading.Event().wait(chance.random() * 0.3)
        if process.poll() is None:
            chance.choice([os.killpg, os.kill])(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=PATIENCE)
    assert not any(words in said for words in ("worker/process", "worker/template", "bug in procoro")), said
    done = (out, said) == ("done\n", "") and process.returncode in (0, -signal.SIGINT)
    assert done or "KeyboardInterrupt" in said, (process.returncode, out, said)


def test_who_sees_the_sentinel_sees_the_exit_code() -> None:
    for number in range(20):
        process = started(alone.leave, number)
        multiprocessing.connection.wait([process.sentinel])
        assert (process.is_alive(), process.exitcode) == (False, number)


def test_who_gives_up_rights_starts_none_that_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """By `setuid`, as a server does. (To be another user here, the whole suite would have to be readable for him.)"""
    before = started(os.getppid)
    assert started(os.getppid).result() == before.result()
    monkeypatch.setattr("procoro.engines.template._credentials", lambda: "another")
    assert started(os.getppid).result() != before.result()


def test_those_that_one_may_not_signal_any_more_end_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were started with more rights; so was their template."""
    process = started(signal.pause)
    with Pool(1) as pool:
        running = pool.submit(signal.pause)
        wait_until(running.running, "it runs")

        def refuse(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
        with pytest.raises(PermissionError):  # as long as we have all that it was started with, it is its own doing
            process.terminate()
        monkeypatch.setattr("procoro.engines.template._credentials", lambda: "another")
        process.terminate()
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGTERM
    assert running.done()


def test_a_ctrl_c_just_behind_the_request(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What was asked for comes, finds nobody, and goes; nobody is surprised by that."""
    send = channel.send

    def sent(end: channel.End, pieces: Any, fds: Any = (), flags: int = 0) -> None:
        send(end, pieces, fds, flags)
        if pieces[0][:1] == channel.START_PROCESS:
            monkeypatch.undo()
            raise KeyboardInterrupt

    assert started(calls.double, 1).result(PATIENCE) == 2
    monkeypatch.setattr(channel, "send", sent)
    with pytest.raises(KeyboardInterrupt):
        started(calls.double, 2)
    assert started(calls.double, 3).result(PATIENCE) == 6
    assert not caplog.records


def test_a_template_that_is_killed_holds_nobody_who_waited_for_its_processes(script: Script) -> None:
    said = script(
        """
        import gc, os, signal, time, weakref
        from procoro import Lock, Pool, Process
        from procoro.errors import WorkerDied

        def children():
            tasks = os.listdir("/proc/self/task")
            return [int(pid) for task in tasks for pid in open(f"/proc/self/task/{task}/children").read().split()]

        def use():
            pool, lock = Pool(1), Lock()
            pool.apply(abs, (1,))
            process = Process(target=time.sleep, args=(1000,), daemon=True)
            process.start()
            for pid in children():
                os.kill(pid, signal.SIGKILL)
            process.kill()
            try:
                process.result(20)
            except WorkerDied:
                pass
            pool.submit(abs, 1).exception()
            pool.close()
            pool.join()
            return weakref.ref(lock)

        lock = use()
        until = time.monotonic() + 20
        while lock() is not None and time.monotonic() < until:
            gc.collect()
            time.sleep(0.01)
        print(lock())
        """
    )
    assert said == "None\n"


def log_at_the_end(number: int) -> int:
    import atexit

    atexit.register(logging.getLogger("at the end").warning, "%d", number)
    return number


def test_what_is_said_behind_the_outcome_is_heard_though_all_comes_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with Pool(1) as pool:
        assert pool.submit(int).get(PATIENCE) == 0
        crank, hold = Crank._current, threading.Event()
        assert crank is not None
        crank.post(hold.wait)  # it comes to nothing else until the process has ended
        process = Process(target=log_at_the_end, args=(7,))
        process.start()
        multiprocessing.connection.wait([process.sentinel], PATIENCE)
        hold.set()
        assert process.result(PATIENCE) == 7
    assert [record.message for record in caplog.records if record.name == "at the end"] == ["7"]
