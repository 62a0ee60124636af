"""An event loop that does not turn for more than a second is noticed: once, with the function and its stack."""

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from tests.promises import blockers, crowds
from tests.promises.conftest import Start
from tests.promises.crowds import fitting
from tests.promises.looks import PATIENCE, wait_until
from tests.promises.meetings import Meeting

either = pytest.mark.parametrize("model", ["asyncio", None, "greenlets"])

BLOCKERS = [blockers.loop_in_python, blockers.sum_in_c, blockers.long_regex, blockers.original_sleep]


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [one for one in caplog.records if one.name == "procoro" and one.levelno == logging.WARNING]


@either
@pytest.mark.parametrize("function", BLOCKERS, ids=lambda function: function.__name__)
def test_who_blocks_the_loop_is_named(
    model: str | None, function: Callable[..., Any], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Whether it runs Python code, or C code that holds the interpreter's lock."""
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1, model=model) as pool:
        waits = pool.submit(fitting(model, crowds.meet), meeting, 1)
        (pid,) = meeting.reached(1)
        blocks = pool.submit(fitting(model, function), 60.0)
        wait_until(lambda: warnings_in(caplog), "it is noticed", 20)
        meeting.end()
        assert not blocks.ready() and not waits.ready(), "while it blocks"
    (record,) = warnings_in(caplog)
    words = record.getMessage()
    name = fitting(model, function).__name__  # what was called, whatever that has called
    assert words.startswith(f"procoro: worker {pid} has not come back to its event loop for ")
    first, *stack = words.splitlines()
    assert first.endswith(f"it is in {name}"), words
    assert any("blockers.py" in line and line.endswith(f" in {name}") for line in stack)


@either
def test_it_is_told_once_for_each_time(model: str | None, caplog: pytest.LogCaptureFixture) -> None:
    with Pool(1, model=model) as pool:
        for count in (1, 2):
            pool.apply(fitting(model, blockers.loop_in_python), (2.2,))
            assert len(warnings_in(caplog)) == count
    assert all(record.getMessage().count("Stack (most recent call first)") == 1 for record in warnings_in(caplog))


@either
def test_calls_that_wait_are_not_told_of(model: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """Nor are many that each compute a little."""
    with Pool(1, model=model) as pool:
        results = [pool.submit(fitting(model, crowds.nap), 2.2) for _ in range(20)]
        pool.map(fitting(model, blockers.loop_in_python), [0.01] * 20)
        for result in results:
            result.get(PATIENCE)
    assert not warnings_in(caplog)


def test_plain_calls_between_async_ones_are_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """They leave the loop, which nobody waits for then."""
    with Pool(1) as pool:
        for _ in range(2):
            assert pool.map(crowds.aadd, range(10)) == [*range(10)]
            assert pool.apply(crowds.nap, (1.8,)) == 1.8
    assert not warnings_in(caplog)


def test_an_idle_worker_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Its loop sleeps; meanwhile another pool keeps the parent's thread awake."""
    with Pool(1, model="asyncio") as idle, Pool(1) as busy:
        idle.map(crowds.aadd, range(10))
        busy.apply(crowds.nap, (1.8,))
        assert idle.apply(crowds.aadd, (1, 2)) == 3
    assert not warnings_in(caplog)


def test_threads_have_no_loop(caplog: pytest.LogCaptureFixture) -> None:
    with Pool(1, model="threads") as pool:
        pool.apply(blockers.loop_in_python, (1.8,))
    assert not warnings_in(caplog)


def test_a_parent_that_was_stopped_tells_of_nobody(start: Start, tmp_path: Path) -> None:
    """Its workers went on meanwhile."""
    meeting = Meeting(tmp_path / "meeting")
    process = start(
        """
        import sys
        from procoro import Pool
        from tests.promises import crowds
        from tests.promises.meetings import Meeting

        with Pool(1) as pool:
            print(pool.apply(crowds.ameet, (Meeting(sys.argv[1]), "value")))
        """,
        meeting.folder,
    )
    meeting.reached(1)
    os.kill(process.pid, signal.SIGSTOP)
    crowds.nap(2.0)  # the passing of time is what is tested
    os.kill(process.pid, signal.SIGCONT)
    crowds.nap(0.5)
    meeting.end()
    assert process.communicate(timeout=20) == ("value\n", "")


@either
def test_a_worker_that_was_stopped_is_told_of(
    model: str | None, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """To the others it is the same; and when it is continued, all goes on."""
    meeting = Meeting(tmp_path / "meeting")
    with Pool(1, model=model) as pool:
        waits = pool.submit(fitting(model, crowds.meet), meeting, 1)
        (pid,) = meeting.reached(1)
        os.kill(pid, signal.SIGSTOP)
        crowds.nap(2.0)
        os.kill(pid, signal.SIGCONT)
        meeting.end()
        assert waits.get(PATIENCE) == 1
        assert pool.apply(fitting(model, crowds.pid)) == pid
    assert len(warnings_in(caplog)) <= 1
