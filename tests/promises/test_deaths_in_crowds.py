"""Promises 1 to 3 where a worker dies with many calls in it: those that had begun are suspects, the others have their
values; and with retries the culprit is found."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import MemoryLimitExceeded, WorkerDied, failed_call
from tests.promises import calls, crowds, deadly
from tests.promises.crowds import MODELS, fitting
from tests.promises.looks import PATIENCE, errors_in, gone, kill, outcomes, wait_until
from tests.promises.meetings import Meeting

every_model = pytest.mark.parametrize("model", MODELS)
RUNNING = 500


@every_model
@pytest.mark.parametrize("die", [deadly.exits, deadly.kills])
def test_a_death_with_500_calls_running(model: str, die: Callable[..., Any], tmp_path: Path) -> None:
    """One of them is the cause; nobody can know which. What had not begun, had ended, or ran elsewhere is not hit."""
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1, model=model, concurrency=RUNNING) as pool:
        before = [pool.submit(fitting(model, crowds.add), i) for i in range(100)]
        assert [result.get(PATIENCE) for result in before] == [*range(100)]
        running = [pool.submit(fitting(model, crowds.meet), meeting, i) for i in range(RUNNING - 1)]
        (pid, *_) = meeting.reached(RUNNING - 1)
        running.append(pool.submit(fitting(model, die), tmp_path / "go"))
        waiting = [pool.submit(fitting(model, crowds.add), i) for i in range(1000)]
        (tmp_path / "go").touch()
        errors = [result.exception(PATIENCE) for result in running]
        assert [result.get(PATIENCE) for result in waiting] == [*range(1000)]
    how = "left with exit code 3" if die is deadly.exits else "was killed by SIGKILL"
    for error in errors:
        assert type(error) is WorkerDied and (error.pid, error.suspects) == (pid, RUNNING)
        assert f": worker {pid} {how}; {RUNNING} calls were running in it, and any of them may be the cause" in str(
            error
        )
    call = failed_call(errors[7])
    assert call is not None and call.function.endswith("meet") and call.input.endswith("7")


@every_model
def test_with_retries_the_culprit_is_named_alone(model: str, tmp_path: Path) -> None:
    """All that ran run again, apart from each other."""
    with Pool(2, model=model, concurrency=50, retries=1) as pool:
        given = [(str(tmp_path), i, i == 30) for i in range(100)]
        found = outcomes(pool.imap(fitting(model, deadly.dies_if), given))
        assert list(errors_in(found)) == [30]
        assert [one for at, one in enumerate(found) if at != 30] == [i for i in range(100) if i != 30]
        error = found[30]
        assert type(error) is WorkerDied and error.suspects == 1
        assert "dies_if" in str(error) and "suspect" not in str(error) and "may be the cause" not in str(error)
        call = failed_call(error)
        assert call is not None and call.number == 30 and call.attempt == 2
        assert pool.map(fitting(model, crowds.add), range(200)) == [*range(200)]


@every_model
def test_without_retries_no_call_is_begun_twice(model: str, tmp_path: Path) -> None:
    notes = Meeting(tmp_path / "notes")
    with Pool(2, model=model, concurrency=20) as pool:
        found = outcomes(pool.imap(fitting(model, deadly.signs_and_dies_sometimes), [(notes, i) for i in range(400)]))
    numbers = [int(who) for who in notes.who()]
    assert sorted(numbers) == sorted(set(numbers))
    assert [one for one in found if not isinstance(one, Exception)] == [
        i for i, one in enumerate(found) if not isinstance(one, Exception)
    ]
    assert len(found) == 400 and {type(error) for error in errors_in(found).values()} == {WorkerDied}
    assert set(range(400)) - set(numbers) <= set(errors_in(found)), "what has a value was begun"


@every_model
def test_many_deaths_with_retries_lose_nothing(model: str, tmp_path: Path) -> None:
    """A function that ends its worker the first time for every 40th input."""
    with Pool(2, model=model, concurrency=20, retries=30) as pool:
        found = pool.map(fitting(model, deadly.dies_once), [(str(tmp_path), i) for i in range(400)])
    assert found == [*range(400)]


@every_model
def test_a_segmentation_fault(model: str, tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1, model=model) as pool:
        waits = pool.submit(fitting(model, crowds.meet), meeting)
        meeting.reached(1)
        dies = pool.submit(fitting(model, crowds.call), calls.segfault)
        for result in (waits, dies):
            error = result.exception(PATIENCE)
            assert type(error) is WorkerDied and error.exitcode == -signal.SIGSEGV and error.suspects == 2


@every_model
def test_a_call_that_ran_alone_is_the_only_suspect(model: str) -> None:
    with Pool(1, model=model) as pool:
        error = pool.submit(fitting(model, crowds.call), calls.exit_3).exception(PATIENCE)
        assert type(error) is WorkerDied and error.suspects == 1 and "may be the cause" not in str(error)
        assert pool.apply(fitting(model, crowds.add), (1, 2)) == 3


@every_model
def test_a_memory_limit(model: str, tmp_path: Path) -> None:
    """Of one worker: which of its calls took so much, is not known."""
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1, model=model, concurrency=4, memory_limit="400 MiB") as pool:
        meets = [pool.submit(fitting(model, crowds.meet), meeting, i) for i in range(3)]
        meeting.reached(3)
        hoards = pool.submit(fitting(model, deadly.hoards), meeting, 600)
        waiting = [pool.submit(fitting(model, crowds.add), i) for i in range(50)]
        for result in (hoards, *meets):
            error = result.exception(PATIENCE)
            assert type(error) is MemoryLimitExceeded and isinstance(error, MemoryError)
            assert "over the memory_limit of 400.0 MiB, or one of the 4 that ran in it did" in str(error)
        assert [result.get(PATIENCE) for result in waiting] == [*range(50)]


@every_model
def test_a_death_while_a_function_is_loaded(model: str, tmp_path: Path, start: Any) -> None:
    """A module whose import ends the process: the first call stands for it, and its neighbours are suspects, too."""
    (tmp_path / "fatal.py").write_text(
        "import os, sys\n"
        "if os.path.exists('armed'): os._exit(9)\n"
        "import asyncio, time\n"
        "def f(x): time.sleep(0); return x\n"
        "async def af(x): await asyncio.sleep(0); return x\n"
    )
    process = start(
        f"""
        import sys, pathlib
        sys.path.insert(0, ".")
        from procoro import Pool
        from procoro.errors import WorkerDied
        import fatal
        from tests.promises import crowds
        from tests.promises.crowds import fitting
        from tests.promises.meetings import Meeting

        pathlib.Path("armed").touch()
        model = {model!r}
        function = fatal.af if model == "asyncio" else fatal.f
        with Pool(1, model=model) as pool:
            meeting = Meeting("meeting")
            waits = pool.submit(fitting(model, crowds.meet), meeting)
            (pid,) = meeting.reached(1)
            results = [pool.submit(function, i) for i in range(3)]
            error = results[0].exception(20)
            print(type(error).__name__, error.exitcode, error.pid == pid, error.suspects)
            error = waits.exception(20)
            print(type(error).__name__, error.exitcode, error.pid == pid, error.suspects)
            pathlib.Path("armed").unlink()
            print(pool.apply(function, (5,)))
        """
    )
    out, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert out == "WorkerDied 9 True 2\nWorkerDied 9 True 2\n5\n"


@every_model
def test_an_idle_worker_that_is_killed_takes_no_call_with_it(model: str, tmp_path: Path) -> None:
    with Pool(1, model=model) as pool:
        for _ in range(5):
            pid = pool.apply(fitting(model, crowds.pid))
            kill(pid)
            results = [pool.submit(fitting(model, crowds.add), i) for i in range(20)]
            assert [result.get(PATIENCE) for result in results] == [*range(20)]


@every_model
def test_outcomes_that_were_recorded_outlive_their_worker(model: str, tmp_path: Path) -> None:
    """While the parent's thread cannot look, calls end and their worker dies: those that ended have their values."""
    with Pool(1, model=model, concurrency=100) as pool:
        pool.apply(fitting(model, crowds.pid))
        results = [pool.submit(fitting(model, deadly.last_one_dies), str(tmp_path), i, 80) for i in range(80)]
        found = [result.exception(PATIENCE) for result in results]
        died = [error for error in found if error is not None]
        assert all(type(error) is WorkerDied and error.suspects == len(died) for error in died)
        assert len(died) == 1, "the others had written down what they came to"


@every_model
def test_workers_that_die_one_after_another(model: str, tmp_path: Path) -> None:
    """Killed from outside, at any moment, with retries: every call has its value."""
    with Pool(2, model=model, concurrency=20, retries=100) as pool:
        stream = pool.imap_unordered(fitting(model, crowds.number_and_pid), range(2000))
        found = []
        for at, (number, pid) in enumerate(stream):
            found.append(number)
            if at % 250 == 100 and not gone(pid):
                os.kill(pid, signal.SIGKILL)
        assert sorted(found) == [*range(2000)]


def test_a_death_hits_neither_mode_of_the_other_kind(tmp_path: Path) -> None:
    """In a pool without a model: plain calls that wait behind async ones are run elsewhere."""
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1) as pool:
        waits = [pool.submit(crowds.ameet, meeting, i) for i in range(10)]
        (pid, *_) = meeting.reached(10)
        plain = [pool.submit(crowds.add, i) for i in range(50)]
        kill(pid)
        assert {type(result.exception(PATIENCE)) for result in waits} == {WorkerDied}
        assert [result.get(PATIENCE) for result in plain] == [*range(50)]


@every_model
def test_a_call_that_closes_its_workers_descriptors(model: str, tmp_path: Path) -> None:
    """Nothing can be said any more: the worker leaves, and no call waits for ever."""
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1, model=model) as pool:
        waits = [pool.submit(fitting(model, crowds.meet), meeting, i) for i in range(3)]
        meeting.reached(3)
        closes = pool.submit(fitting(model, deadly.closes_all), 0)
        meeting.end()
        for result in (*waits, closes):
            result.wait(PATIENCE)
            assert result.ready()
            assert isinstance(result.exception(0), (WorkerDied, OSError, type(None)))
        wait_until(lambda: pool.submit(fitting(model, crowds.add), 1).exception(PATIENCE) is None, "it works again")
