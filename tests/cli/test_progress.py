import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procoro.watch.progress import INTERVAL, Pace, PlainLines, Tally, duration
from tests.cli.conftest import PATIENCE, Start, function


class Clock:
    """A clock that stands until it is moved; seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_plain_line_comes_every_few_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainLines(clock)
    for second in range(1, 12):
        clock.now = 100.0 + second
        progress.show(Tally(100 * second, second, 10_000))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11 // INTERVAL
    assert lines[0] == "done 500 of 10,000, failed 5, 101.0/s, 1 min 34 s left"


def test_an_estimated_total_is_called_one(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainLines(clock)
    clock.now += 10
    progress.show(Tally(10, 0, 30, exact=False))
    assert capsys.readouterr().err == "done 10 of about 30, failed 0, 1.0/s, about 20.0 s left\n"


def test_without_a_total_nothing_is_foretold(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainLines(clock)
    clock.now += 60
    progress.show(Tally(9, 0))
    assert capsys.readouterr().err == "done 9, failed 0, 9.0/min\n"


def test_the_summary_tells_the_whole_run(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainLines(clock)
    clock.now += 12.34
    progress.close(Tally(1234, 5, 1239))
    assert capsys.readouterr().err == "done 1,234, failed 5, 12.3 s, 100.4/s\n"


def test_the_rate_is_that_of_the_last_seconds() -> None:
    pace = Pace(0.0)
    assert pace.rate == 0.0
    for tenth in range(1, 301):  # 10 a second, and after ten seconds 1,000 a second
        now = tenth / 10
        pace.note(now, int(10 * now) if now <= 10 else int(100 + 1000 * (now - 10)))
    assert pace.rate == pytest.approx(1000, rel=0.01)


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 1000)), max_size=50))
def test_the_rate_is_never_negative(steps: list[tuple[float, int]]) -> None:
    pace, now, answered = Pace(0.0), 0.0, 0
    for seconds, more in steps:
        now += seconds
        answered += more
        pace.note(now, answered)
        assert pace.rate >= 0


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0, "0.0 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3599.9, "1 h 00 min"),
        (7400, "2 h 03 min"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Our end of a terminal, and the command's."""
    ours, theirs = os.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def shown(terminal: int) -> str:
    """What stands in the terminal's buffer."""
    found = b""
    while select.select([terminal], [], [], 0.1)[0]:
        found += os.read(terminal, 1 << 16)
    return found.decode()


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_terminal_has_one_live_line(
    start: Start, terminal: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    ours, theirs = terminal
    (tmp_path / "in.jsonl").write_text("0\n1\n2\n")
    process = start(function("odd_fails"), "in.jsonl", "-o", "out.jsonl", stderr=theirs)
    assert process.wait(timeout=PATIENCE) == 1
    text = shown(ours)
    assert ("\x1b[2K" in text) == (term == "xterm")  # the line is drawn over
    last = text.splitlines()[-2:]
    assert last[0].endswith("/s")
    assert "done 2, failed 1, " in last[0]
    assert last[1] == "procoro map: 1 of 3 inputs failed: their error rows are in OUT"
