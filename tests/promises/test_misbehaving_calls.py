"""Promises 1 and 2: a call that upsets its worker has its value or a named error, and no other call notices."""

import asyncio
import io
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from procoro import Pool
from procoro.errors import CallTimeout, MemoryLimitExceeded, WorkerDied, failed_call
from procoro.worker.output import LineWriter
from tests.gate import Gate
from tests.promises import calls, misbehaviour
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE, all_idle, gone, template, wait_until

MANY = 200


def others(pool: Pool) -> list[Any]:
    """Calls that are queued behind, in one stream and one by one."""
    return [pool.map_async(calls.double, range(MANY)), *(pool.submit(calls.double, i) for i in range(5))]


def check(those: list[Any]) -> None:
    whole, *single = those
    assert whole.get(PATIENCE) == [2 * i for i in range(MANY)]
    assert [one.get(PATIENCE) for one in single] == [2 * i for i in range(5)]


def late(pool: Pool, call: Callable[[], Any]) -> Any:
    """Run it under a timeout that holds for no other call."""
    return pool.imap(calls.call, [call], timeout=0.3).next(PATIENCE)


def all_outcomes(stream: Any) -> list[Any]:
    """As in `looks`, also of what is no Exception."""
    found: list[Any] = []
    while True:
        try:
            found.append(stream.next(PATIENCE))
        except StopIteration:
            return found
        except BaseException as error:
            found.append(error)


def names(errors: list[BaseException]) -> list[str]:
    return [type(error).__name__ for error in errors]


# ---------------------------------------------------------------------------------- what is no Exception


@pytest.mark.parametrize("error", misbehaviour.BASES, ids=names(misbehaviour.BASES))
def test_what_is_no_exception_arrives_as_itself(error: BaseException) -> None:
    def is_it(found: BaseException | None) -> bool:
        return type(found) is type(error) and found.args == error.args

    given = [(i, error) for i in range(6)]
    with Pool(1) as pool:
        pid = pool.apply(calls.pid)
        thrown, those = pool.submit(misbehaviour.throw, error), others(pool)
        found = thrown.exception(PATIENCE)
        assert is_it(found) and not thrown.cancelled()
        call = None if found is None else failed_call(found)
        assert call is not None and call.pid == pid
        check(those)
        with pytest.raises(type(error)) as caught:
            pool.map(misbehaviour.throw_at_3, given)
        assert is_it(caught.value)
        for stream in (pool.imap(misbehaviour.throw_at_3, given), pool.imap(misbehaviour.throw_at_3, given, 6)):
            outcomes = all_outcomes(stream)
            assert is_it(outcomes.pop(3)) and outcomes == [0, 1, 2, 4, 5]
        assert pool.apply(calls.pid) == pid, "it costs no worker"


def test_what_is_no_exception_is_raised_by_await() -> None:
    async def wait(pool: Pool, error: BaseException) -> None:
        with pytest.raises(type(error)):
            await pool.submit(misbehaviour.throw, error)

    with Pool(1) as pool:
        for error in (GeneratorExit("mine"), misbehaviour.Base("mine", 7)):
            asyncio.run(wait(pool, error))
        assert pool.apply(calls.double, (1,)) == 2


# ------------------------------------------------------------------------------------------- descriptors


@pytest.mark.parametrize("size", [10, 300_000])
@pytest.mark.parametrize(
    "call, args",
    [
        (misbehaviour.close_range, (0,)),
        (misbehaviour.close_range, (3,)),
        (misbehaviour.close_and_open_others, ()),
        (misbehaviour.put_null_over_all, ()),
    ],
    ids=["all", "all but standard", "taken by sockets", "taken by files"],
)
def test_a_call_that_closes_its_workers_descriptors(
    call: Callable[..., bytes], args: tuple[Any, ...], size: int
) -> None:
    with Pool(1) as pool:
        pid = pool.apply(calls.pid)
        closes, those = pool.submit(call, *args, size), others(pool)
        if size < 100_000:
            assert closes.get(PATIENCE) == bytes(size)
        else:  # it cannot be handed over
            with pytest.raises(OSError, match="closed its worker's connection to the pool"):
                closes.get(PATIENCE)
        for one in those:
            one.wait(5)  # less than is granted to a worker that is silent
            assert one.ready()
        check(those)
        assert pool.apply(calls.pid) != pid


def test_a_call_that_leaves_no_descriptor_free() -> None:
    with Pool(1) as pool:
        pid = pool.apply(calls.pid)
        assert pool.submit(misbehaviour.leave_no_descriptor, 10).get(PATIENCE) == bytes(10)
        with pytest.raises(OSError, match="Too many open files"):
            pool.submit(misbehaviour.leave_no_descriptor, 300_000).get(PATIENCE)
        check(others(pool))
        assert pool.apply(calls.pid) == pid


# -------------------------------------------------------------------------------------- standard output


@pytest.mark.parametrize(
    "call",
    [
        misbehaviour.take_stdout_away,
        misbehaviour.delete_stdout,
        misbehaviour.put_something_else_for_stdout,
        misbehaviour.close_stdout,
        misbehaviour.close_what_stdout_writes_to,
    ],
)
def test_a_call_that_spoils_its_standard_output(call: Callable[[], None]) -> None:
    with Pool(1) as pool:
        pid = pool.apply(calls.pid)
        spoils, those = pool.submit(call), others(pool)
        assert spoils.get(PATIENCE) is None
        check(those)
        assert pool.apply(calls.pid) == pid


def test_a_mebibyte_without_a_newline_arrives(script: Script) -> None:
    said = script(
        """
        from procoro import Pool

        def say(letter):
            print(letter * (1 << 20), end="")

        with Pool(2) as pool:
            pool.map(say, "ab", chunksize=1)
        """
    )
    assert len(said) == 2 << 20 and said.count("a") == said.count("b") == 1 << 20


def test_what_a_thread_prints_when_its_call_is_over_arrives(script: Script) -> None:
    said = script(
        """
        from procoro import Pool
        from tests.promises import misbehaviour

        with Pool(1) as pool:
            pool.map(misbehaviour.print_from_a_thread, ["x"] * 200)
            pool.close()
            pool.join()
        """
    )
    assert said == "x" * 200


@pytest.mark.pure
def test_a_call_that_prints_for_ever_fills_no_memory() -> None:
    writer = LineWriter(io.BytesIO())
    writer.printed = []
    for _ in range(1000):
        print("x", file=writer)
    assert len(writer.printed) == 1


# ----------------------------------------------------------------------------------- signals and threads


@pytest.mark.parametrize("call", [misbehaviour.block_all_signals, misbehaviour.ignore_signals])
@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_worker_that_hears_no_signal_can_be_ended(call: Callable[[], int], end: str) -> None:
    with Pool(1) as pool:
        pid = pool.apply(call)
        check(others(pool))
        assert pool.apply(calls.pid) == pid
        with pytest.raises(CallTimeout):
            late(pool, calls.hang)
        wait_until(lambda: gone(pid), "it is ended")
        pid = pool.apply(call)
        getattr(pool, end)()
        pool.join()
        assert gone(pid)


def test_a_call_that_stops_itself_is_hung() -> None:
    with Pool(1) as pool:
        with pytest.raises(CallTimeout):
            late(pool, misbehaviour.stop_self)
        check(others(pool))


@pytest.mark.parametrize("call", [misbehaviour.leave_an_alarm, misbehaviour.leave_an_alarm_that_raises])
def test_an_alarm_that_outlives_its_call_ends_an_idle_worker_and_no_call(call: Callable[[], int]) -> None:
    with Pool(1) as pool:
        pid = pool.apply(call)
        wait_until(lambda: gone(pid), "the alarm has ended the worker")
        check(others(pool))


def test_sleep_is_not_cut_short_by_signals() -> None:
    with Pool(1) as pool:
        assert pool.apply(misbehaviour.sleep_under_signals, (0.1,)) >= 0.1


@pytest.mark.parametrize("how", ["close", "terminate", "retire"])
def test_threads_that_never_end_hold_no_worker(how: str) -> None:
    with Pool(1, maxtasksperchild=50 if how == "retire" else None) as pool:
        pid = pool.apply(misbehaviour.leave_threads, (4,))
        if how == "retire":
            check(others(pool))
            wait_until(lambda: gone(pid), "its worker has left")
            return
        assert psutil.Process(pid).num_threads() > 4
        check(others(pool))
        getattr(pool, how)()
        pool.join()
        assert gone(pid)


# ----------------------------------------------------------------------------------- the worker's innards

HARMLESS = [
    misbehaviour.patch_pickle,
    misbehaviour.patch_the_clock,
    misbehaviour.patch_os,
    misbehaviour.forget_all_modules,
    misbehaviour.freeze_the_heap,
    misbehaviour.be_nice,
    misbehaviour.register_at_exit,
    misbehaviour.enable_the_fault_handler,
    misbehaviour.lead_a_session,
    misbehaviour.lead_a_group,
    misbehaviour.recurse_less,
    misbehaviour.warn,
]


@pytest.mark.parametrize("call", HARMLESS)
def test_what_a_call_does_to_the_interpreter_harms_no_other(call: Callable[[], None]) -> None:
    with Pool(1) as pool:
        pid = pool.apply(calls.pid)
        assert pool.apply(call) is None
        check(others(pool))
        assert pool.apply(calls.pid) == pid
        pool.close()
        pool.join()
        assert gone(pid)


def test_a_call_that_kills_the_template_has_its_value(gate: Gate) -> None:
    with Pool(1) as pool:
        pid, old = pool.apply(calls.pid), template().pid
        kills, those = pool.submit(misbehaviour.kill_the_template), others(pool)
        assert kills.get(PATIENCE) is None
        wait_until(lambda: gone(old), "the template is dead")
        check(those)
        assert all_idle(pool, gate, 1) == {pid}


def test_what_a_call_changes_stays_with_its_worker(tmp_path: Path) -> None:
    """As in `multiprocessing`: the next call finds it so, another worker does not."""
    before = misbehaviour.state_now()
    with Pool(1) as pool:
        assert pool.apply(misbehaviour.state_now) == before
        pid = pool.apply(misbehaviour.change_the_state, (str(tmp_path),))
        changed = pool.apply(misbehaviour.state_now)
        assert changed == (str(tmp_path), 0o077, "1", str(tmp_path), "--changed", 0)
        assert pool.apply(calls.pid) == pid
        assert isinstance(pool.submit(calls.exit_0).exception(PATIENCE), WorkerDied)
        assert pool.apply(misbehaviour.state_now) == before == misbehaviour.state_now()


# ------------------------------------------------------------------------------------- deaths and hangs

DEATHS = [
    (misbehaviour.abort, (), -signal.SIGABRT),
    pytest.param(
        misbehaviour.overflow_the_stack,
        (),
        -signal.SIGSEGV,
        marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="C calls are counted, too, since Python 3.12"),
    ),
    (misbehaviour.segfault_with_a_fault_handler, (), -signal.SIGSEGV),
    (misbehaviour.become, ("true",), 0),
    (misbehaviour.become, ("sh", "-c", "exit 9"), 9),
]


@pytest.mark.parametrize("die, args, exitcode", DEATHS)
def test_a_death_of_another_kind_is_charged_to_its_call(
    die: Callable[..., None], args: tuple[Any, ...], exitcode: int
) -> None:
    with Pool(1) as pool:
        dies, those = pool.submit(die, *args), others(pool)
        error = dies.exception(PATIENCE)
        assert isinstance(error, WorkerDied) and error.exitcode == exitcode, error
        assert die.__name__ in str(error)
        check(those)


def test_a_call_that_becomes_a_program_that_does_not_end_is_late() -> None:
    with Pool(1) as pool:
        with pytest.raises(CallTimeout) as caught:
            late(pool, partial(misbehaviour.become, "sleep", "60"))
        call = failed_call(caught.value)
        wait_until(lambda: call is not None and gone(call.pid), "the program is ended")
        check(others(pool))


def test_a_recursion_without_end_is_its_own_error() -> None:
    with Pool(1) as pool:
        pid = pool.apply(calls.pid)
        recurses, those = pool.submit(misbehaviour.recurse), others(pool)
        assert isinstance(recurses.exception(PATIENCE), RecursionError)
        check(those)
        assert pool.apply(calls.pid) == pid


def test_a_hog_that_hears_no_signal_is_ended(gate: Gate) -> None:
    with Pool(1, memory_limit="100 MiB") as pool:
        pool.apply(misbehaviour.block_all_signals)
        hogs, those = pool.submit(calls.hoard, 200, gate), others(pool)
        assert isinstance(hogs.exception(PATIENCE), MemoryLimitExceeded)
        check(those)


# ------------------------------------------------------------------------------------ what only looks odd


def test_a_program_that_a_call_starts_inherits_nothing_of_the_worker() -> None:
    look = "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"
    with Pool(1) as pool:
        signals = pool.apply(misbehaviour.run_a_program, look)
        fds = pool.apply(misbehaviour.run_a_program, ("ls", "/proc/self/fd"))
    standard = (1 << signal.SIGSYS) - 1  # those beyond are the C library's
    ours = misbehaviour.run_a_program(*look)  # nohup, say, ignores some
    masks = [[int(mask, 16) & standard for mask in words.split()[1::2]] for words in (signals, ours)]
    assert masks[0] == masks[1], signals
    assert fds.split() == ["0", "1", "2", "3"], "the standard streams, and the folder that is listed"


def test_a_call_may_use_multiprocessing() -> None:
    with Pool(1) as pool:
        assert pool.apply(misbehaviour.use_multiprocessing, (3,)) == [0, 0, 1, 2, 0, 1, 2]


def test_a_call_may_return_a_lambda() -> None:
    with Pool(1) as pool:
        assert pool.apply(misbehaviour.adder, (3,))(4) == 7


def test_all_that_at_once_beside_calls_that_behave() -> None:
    """Many workers, all sorts of misbehaviour between ordinary calls: each has what is its own."""
    odd: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (misbehaviour.close_range, (3,)),
        (misbehaviour.delete_stdout, ()),
        (misbehaviour.throw, (SystemExit(3),)),
        (misbehaviour.patch_the_clock, ()),
        (calls.exit_3, ()),
        (misbehaviour.leave_threads, (2,)),
        (misbehaviour.kill_the_template, ()),
        (misbehaviour.block_all_signals, ()),
        (calls.kill_self, ()),
    ]
    with Pool(3) as pool:
        strange, plain = [], []
        for call, args in odd:
            strange.append(pool.submit(call, *args))
            plain += [pool.submit(calls.double, i) for i in range(20)]
        stream = pool.imap(calls.double, iter(range(500)))
        assert [one.get(PATIENCE) for one in plain] == [2 * i for i in range(20)] * len(odd)
        assert list(stream) == [2 * i for i in range(500)]
        failed = {call.__name__: type(one.exception(PATIENCE)) for (call, _), one in zip(odd, strange, strict=True)}
    expected = {call.__name__: type(None) for call, _ in odd}
    assert failed == {**expected, "throw": SystemExit, "exit_3": WorkerDied, "kill_self": WorkerDied}


def closes_if_first(number: int) -> int:
    if number == 0:
        os.closerange(3, 256)
        time.sleep(0.02)  # so long that the worker says how far it is before it goes on
    return number


def test_the_call_behind_one_that_closes_its_workers_descriptors_is_not_charged() -> None:
    """The worker cannot tell any more, and leaves: between two calls, and the others run elsewhere."""
    with Pool(1, model="serial") as pool:
        assert pool.map(closes_if_first, range(10), chunksize=10) == list(range(10))
