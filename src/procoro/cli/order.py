"""The command line of `procoro map` as plain data, and what can be refused of it at once."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from procoro.cli.inputs import Globbed, Source, TextFile, guess_format
from procoro.functions import is_async

STANDARD = "-"  # as INPUTS, OUT or FILE: the standard stream


class OrderError(Exception):
    """Parts of the command line contradict each other; the message says which."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the user asked for; `None`: nothing said."""

    function: str
    inputs: str | None
    pattern: str | None
    form: str | None  # of the inputs
    out: str
    errors: str | None
    workers: int | None
    model: str | None  # None: by the function
    concurrency: int | None  # of calls in a worker
    timeout: float | None  # seconds, for one call
    retries: int
    memory_limit: str | None
    unordered: bool
    max_failures: int | None
    quiet: bool

    @property
    def reads_standard_input(self) -> bool:
        return self.inputs == STANDARD

    @property
    def writes_standard_output(self) -> bool:
        return STANDARD in (self.out, self.errors)

    @property
    def memory(self) -> int | str | None:
        """The memory limit as a pool takes it: a plain number is bytes."""
        text = self.memory_limit
        return int(text) if text is not None and text.isdecimal() else text

    def check(self) -> None:
        """Look for what cannot be meant.

        Raises:
            OrderError: with words for the user.
        """
        if (self.inputs is None) == (self.pattern is None):
            given = "neither INPUTS nor" if self.inputs is None else "both INPUTS and"
            quote = (
                "" if self.inputs is None else "; a pattern must be quoted, or the shell puts the files in its place"
            )
            raise OrderError(f"{given} --glob given, and it takes one of them{quote}")
        if self.pattern is not None and self.form is not None:
            raise OrderError("--format is for INPUTS, --glob gives paths")
        if self.errors is not None and _same(_place(self.out, 1), _place(self.errors, 1)):
            raise OrderError("--errors and --out are the same file; without --errors, error rows go to OUT")

    def check_function(self, function: Callable[..., Any], file: str | None) -> None:
        """Can the model run it, and is the file that it stands in left whole?

        Raises:
            OrderError: with words for the user.
        """
        for written in filter(None, (self.out, self.errors)):
            if file is not None and _same(_place(written, 1), _place(file)):
                raise OrderError(f"FUNCTION stands in {written}, and rows would be written over it")
        if self.model == "greenlets" and is_async(function):
            raise OrderError("FUNCTION is an `async def`, which greenlets cannot run: leave --model out")

    def source(self, standard_input: int | None) -> Source:
        """Where the inputs come from; `standard_input` is a descriptor that it may read and close.

        Raises:
            InputError: nothing can be read.
            OrderError: an input would be overwritten.
        """
        if self.pattern is not None:
            source = Globbed(self.pattern)
            self._spare(source.paths)
            return source
        assert self.inputs is not None
        if standard_input is not None:
            self._spare([STANDARD], standard_input)
            return TextFile("standard input", standard_input, self.form or "lines")
        self._spare([self.inputs])
        return TextFile(self.inputs, self.inputs, self.form or guess_format(self.inputs))

    def _spare(self, paths: list[str], standard: int | None = None) -> None:
        """Refuse to write over what is read; `-` among it is the descriptor `standard`."""
        for written in filter(None, (self.out, self.errors)):
            place = _place(written, 1)
            # A look at each of a million paths would take seconds: only those of the same name are compared.
            names = {os.path.basename(written), os.path.basename(os.path.realpath(written))}
            for path in paths if len(paths) == 1 else (path for path in paths if os.path.basename(path) in names):
                if _same(place, _place(path, standard)):
                    name = path if standard is None else "the file of standard input"
                    raise OrderError(f"{name} is an input, and rows would be written over it")


def _place(path: str, standard: int | None = None) -> tuple[object, ...] | None:
    """What tells one file from another; None: it may be meant twice, as /dev/null."""
    try:
        if path == STANDARD and standard is not None:
            status = os.fstat(standard)
            if not stat.S_ISREG(status.st_mode):
                return ("standard", standard)
        else:
            status = os.stat(path)
    except OSError:
        return ("new", os.path.realpath(path))
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _same(one: tuple[object, ...] | None, other: tuple[object, ...] | None) -> bool:
    return one is not None and one == other
