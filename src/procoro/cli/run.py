"""One run of `procoro map`: each input becomes a job, each answer or failure becomes a row."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from procoro.cli.answer import Answer, Job
from procoro.cli.inputs import Row, Source
from procoro.cli.interrupts import Interrupts
from procoro.cli.output import RowFile, error_row
from procoro.watch.progress import Progress, Tally

if TYPE_CHECKING:
    from procoro.errors import FailedCall

LOOK = 0.1  # seconds between two looks at signals and progress, and the longest that a row waits to be written


class Answers(Protocol):
    """What a run needs of a pool's stream."""

    def next(self, timeout: float | None = None) -> Answer:
        """The next answer; a failed call raises its error, and `WaitTimeout` says that there is none yet."""
        ...

    def drain(self) -> None:
        """Pull no more inputs; what has been pulled is still run and delivered."""
        ...


class TooManyFailures(Exception):
    """More inputs failed than the user allows; the message says how many."""


class Run:
    """Knows every input that has been pulled and not answered, by its number from 0.

    `failures` takes the error rows; it may be the same file as `rows`.
    """

    def __init__(
        self,
        source: Source,
        rows: RowFile,
        failures: RowFile,
        progress: Progress,
        interrupts: Interrupts,
        max_failures: int | None = None,
    ) -> None:
        self.source = source
        self.rows = rows
        self.failures = failures
        self._progress = progress
        self._interrupts = interrupts
        self._max_failures = max_failures
        self._under_way: dict[int, Row] = {}  # the feeder's thread puts in, ours takes out
        self._done = self._failed = 0
        self._draining = False
        self._next_look = 0.0  # monotonic seconds

    def jobs(self) -> Iterator[Job]:
        """What the pool maps over. Pulled by its feeder, in a thread of its own.

        Raises:
            InputError: while iterating.
        """
        for number, row in enumerate(self.source.rows()):
            self._under_way[number] = row
            yield (number, row.value) if row.fault is None else (number,)

    def follow(self, answers: Answers) -> None:
        """Write a row for each answer until there are no more, or until the user stops it; flush at the end.

        Raises:
            TooManyFailures, OutputError, InputError, ProcoroError: the run cannot go on.
        """
        try:
            while not self._interrupts.stop and self._step(answers):
                if time.monotonic() >= self._next_look:
                    self._look(answers)
        finally:
            self._flush()

    def tally(self) -> Tally:
        total = self.source.total()
        return Tally(self._done, self._failed, *(total or (None, True)))

    def close(self) -> None:
        """End the progress display with its summary."""
        self._progress.close(self.tally())

    @property
    def interrupted(self) -> bool:
        return self._interrupts.drain

    @property
    def failed(self) -> int:
        return self._failed

    @property
    def is_complete(self) -> bool:
        """Every input has been answered, as far as can be known."""
        total = self.source.total()
        return total is not None and total.exact and self.tally().answered == total.rows

    def how_far(self) -> str:
        """What has been answered and what is left, in words."""
        answered, total = self.tally().answered, self.source.total()
        if total is None:
            under_way = len(self._under_way)
            return f"{answered:,} inputs answered, {under_way:,} left, and what {self.source.name} still holds"
        about = "" if total.exact else "about "
        return f"{answered:,} of {about}{total.rows:,} inputs answered, {about}{total.rows - answered:,} left"

    def _step(self, answers: Answers) -> bool:
        try:
            number, answer = answers.next(LOOK)
        except StopIteration:
            return False
        except BaseException as error:  # what a call raised comes out here, SystemExit and all
            self._raised(error)
        else:
            self._answered(number, answer)
        return True

    def _answered(self, number: int, answer: bytes | str) -> None:
        row = self._under_way.pop(number)
        if row.fault is not None:
            self._fails(number, row, "BadInput", row.fault)
        elif isinstance(answer, str):
            self._fails(number, row, "NotJSON", answer)
        else:
            self._done += 1
            self.rows.write(answer)

    def _raised(self, error: BaseException) -> None:
        from procoro.errors import WaitTimeout, failed_call

        call = failed_call(error)
        if call is not None:
            row = self._under_way.pop(call.number)
            if row.fault is not None:  # its worker was lost, but no call was made
                self._fails(call.number, row, "BadInput", row.fault)
            else:
                self._fails(call.number, row, type(error).__name__, _words(error, call, row.value), call.traceback)
        elif not isinstance(error, WaitTimeout):
            raise error

    def _fails(self, number: int, row: Row, kind: str, message: str, traceback: str = "") -> None:
        self._failed += 1
        self.failures.write(error_row(number, row, kind, message, traceback))
        if self._max_failures is not None and self._failed > self._max_failures:
            raise TooManyFailures(f"{self._failed:,} inputs failed, --max-failures allows {self._max_failures:,}")

    def _look(self, answers: Answers) -> None:
        self._flush()
        if self._interrupts.drain and not self._draining:
            self._draining = True
            answers.drain()
            under_way = f"{len(self._under_way):,} calls under way"
            self._progress.say(f"draining: {under_way}, Ctrl-C again to stop now")
        self._progress.show(self.tally())
        self._next_look = time.monotonic() + LOOK

    def _flush(self) -> None:
        try:
            self.rows.flush()
        finally:
            self.failures.flush()


def _words(error: BaseException, call: FailedCall, value: object) -> str:
    try:
        words = str(error)
    except Exception as second:  # __str__ is the user's code
        return f"(its __str__ raised {type(second).__name__})"
    from procoro.wire.inputs import ONE, short

    # Our own errors name the call, whose input is a job here.
    return words.replace(f"{call.function}({call.input})", f"{call.function}({short(value, ONE)})", 1)
