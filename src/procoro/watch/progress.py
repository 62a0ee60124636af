"""How far a run is: a live line on a terminal, plain lines elsewhere, a summary at the end.

Drawn by whoever calls `show`, on standard error; no thread of its own. Only the live line imports `rich`.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

INTERVAL = 5.0  # seconds between two plain lines
WINDOW = 15.0  # seconds that the rate looks back on, so that the rest is judged by how it goes now


class Tally(NamedTuple):
    """What has been answered so far, of how many."""

    done: int  # with a value
    failed: int
    total: int | None = None  # None: not known
    exact: bool = True  # False: the total is an estimate

    @property
    def answered(self) -> int:
        return self.done + self.failed


class Progress(Protocol):
    """One who is told of a run."""

    def show(self, tally: Tally) -> None:
        """Draw `tally`. Cheap enough to be called ten times a second."""
        ...

    def say(self, words: str) -> None:
        """Print a line of its own."""
        ...

    def close(self, tally: Tally) -> None:
        """End with a summary."""
        ...


def progress_for(quiet: bool, beside_rows: bool = False) -> Progress:
    """The right one for this process's standard error; a live line would stand between rows `beside_rows`."""
    if quiet:
        return Silence()
    if not beside_rows and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return LiveLine()
    return PlainLines()


class Silence:
    """Says nothing."""

    def show(self, tally: Tally) -> None:
        pass

    def say(self, words: str) -> None:
        pass

    def close(self, tally: Tally) -> None:
        pass


class PlainLines:
    """A line every `INTERVAL` seconds, for log files and pipes.

    When standard error is closed or full it falls silent: the run is worth more than its report.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pace = Pace(clock())
        self._next_line = clock() + INTERVAL

    def show(self, tally: Tally) -> None:
        now = self._clock()
        self._pace.note(now, tally.answered)
        if now >= self._next_line:
            self._next_line = now + INTERVAL
            say(_words(tally, self._pace))

    def say(self, words: str) -> None:
        say(words)

    def close(self, tally: Tally) -> None:
        say(_summary(tally, self._clock() - self._pace.start))


def say(words: str) -> None:
    """Write a line to standard error; when that is full, nothing is heard from then on."""
    try:
        print(words, file=sys.stderr, flush=True)
    except OSError:
        # What is left in its buffer would fail once more when the interpreter ends, and make the exit status 120.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)


class LiveLine:
    """A bar and the same words on one line of the terminal, drawn anew in place."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pace = Pace(clock())
        self._bar = _bar()
        self._task = self._bar.add_task("map", total=None, words="starting")
        self._bar.start()

    def show(self, tally: Tally) -> None:
        self._pace.note(self._clock(), tally.answered)
        total = None if tally.total is None else max(tally.total, 1)  # an empty run is not drawn as endless
        self._bar.update(
            self._task, total=total, completed=tally.answered, words=_words(tally, self._pace), refresh=True
        )

    def say(self, words: str) -> None:
        self._bar.console.print(words, markup=False, highlight=False, soft_wrap=True)

    def close(self, tally: Tally) -> None:
        self._bar.update(self._task, visible=False)  # the summary takes its place
        self._bar.stop()
        self.say(_summary(tally, self._clock() - self._pace.start))


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        BarColumn(bar_width=24),
        TextColumn("{task.fields[words]}", markup=False),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,  # rows may go there
    )


class Pace:
    """How fast it goes: calls answered per second, over the last `WINDOW` seconds."""

    def __init__(self, start: float) -> None:
        self.start = start  # seconds of the clock
        self._marks = deque([(start, 0)])  # (time, answered), about one a second

    def note(self, now: float, answered: int) -> None:
        if len(self._marks) > 1 and now - self._marks[-2][0] < 1.0:
            self._marks[-1] = (now, answered)
        else:
            self._marks.append((now, answered))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW:
            self._marks.popleft()

    @property
    def rate(self) -> float:
        """Per second; 0.0 while nothing is known."""
        (then, before), (now, answered) = self._marks[0], self._marks[-1]
        return (answered - before) / (now - then) if now > then else 0.0


def _words(tally: Tally, pace: Pace) -> str:
    parts = [_counts(tally), _per_time(pace.rate)]
    if tally.total is not None and pace.rate > 0:
        about = "" if tally.exact else "about "
        parts.append(f"{about}{duration((tally.total - tally.answered) / pace.rate)} left")
    return ", ".join(parts)


def _summary(tally: Tally, seconds: float) -> str:
    rate = tally.answered / seconds if seconds > 0 else 0.0
    return ", ".join([_counts(tally._replace(total=None)), duration(seconds), _per_time(rate)])


def _counts(tally: Tally) -> str:
    of = "" if tally.total is None else f" of {'' if tally.exact else 'about '}{tally.total:,}"
    return f"done {tally.done:,}{of}, failed {tally.failed:,}"


def _per_time(rate: float) -> str:
    return f"{rate:,.1f}/s" if rate >= 1 or rate == 0 else f"{rate * 60:,.1f}/min"


def duration(seconds: float) -> str:
    """`12.3 s`, `4 min 05 s` or `2 h 03 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
