"""Where rows go: whole lines to a file or a pipe, soon after they are known."""

from __future__ import annotations

import errno
import itertools
import os
import re
import select
import stat
import time
from collections.abc import Callable
from typing import Self

from procoro.cli.answer import to_json
from procoro.cli.inputs import Row

BATCH = 1 << 16  # bytes gathered before they are written without being asked
OUR_FOLDER = os.path.dirname(os.path.dirname(__file__)) + os.sep
PATIENCE = 100  # milliseconds between two looks whether a pipe is still worth waiting for


class OutputError(Exception):
    """Rows cannot be written; the message names the file and says why."""


class RowFile:
    """A file of rows. What `write` was given is there after `flush`, and survives a `kill -9` from then on.

    A batch is written at once, and what a full disk let through of a row is taken back: a file holds whole
    lines only. `give_up` is asked while a pipe's reader does not read; its yes ends in an `OutputError`.
    """

    def __init__(self, name: str, descriptor: int, give_up: Callable[[], bool] = lambda: False) -> None:
        self.name = name
        self._descriptor = descriptor
        self._give_up = give_up
        self._rows: list[bytes] = []
        self._waiting = 0  # bytes in _rows
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)

    @classmethod
    def create(
        cls, path: str, give_up: Callable[[], bool] = lambda: False, leave: Callable[[], bool] = lambda: False
    ) -> Self:
        """Open `path` for rows; what it holds is there until `empty`. `leave` is asked while nobody reads a FIFO.

        Raises:
            OutputError: it cannot be opened.
        """
        try:
            return cls(path, _open(path, leave), give_up)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error

    def empty(self) -> None:
        """What was in the file is gone."""
        if self._is_file:
            os.ftruncate(self._descriptor, 0)

    def write(self, row: bytes) -> None:
        """Take one row, without its line end.

        Raises:
            OutputError: a batch was full and could not be written.
        """
        self._rows.append(row)
        self._waiting += len(row) + 1
        if self._waiting >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what was taken.

        Raises:
            OutputError: the disk is full, the reader has gone, or `give_up` said so.
        """
        if not self._rows:
            return
        data = b"\n".join([*self._rows, b""])
        self._rows, self._waiting = [], 0  # a batch that fails is not tried again
        try:
            self._write_all(memoryview(data))
        except OSError as error:
            raise OutputError(self._why(error)) from error

    def close(self) -> None:
        """Flush and close.

        Raises:
            OutputError: as `flush`; some network disks say only now that they are full.
        """
        if self._descriptor < 0:
            return
        try:
            self.flush()
        finally:
            descriptor, self._descriptor = self._descriptor, -1
            self._close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _close(self, descriptor: int) -> None:
        try:
            os.close(descriptor)
        except OSError as error:
            raise OutputError(self._why(error)) from error

    def _write_all(self, data: memoryview) -> None:
        sent = 0
        try:
            while sent < len(data):
                sent += self._write_some(data[sent:])
        except OSError:
            self._take_back(bytes(data[:sent]))
            raise

    def _write_some(self, data: memoryview) -> int:
        if self._is_file:
            return os.write(self._descriptor, data)
        # Never wait inside write: Ctrl-C must be able to end the waiting for a reader that does not read.
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while not poll.poll(PATIENCE):
            if self._give_up():
                raise OutputError(f"{self.name} was not read from any more: its last rows are lost")
        return os.write(self._descriptor, data[: select.PIPE_BUF])

    def _take_back(self, sent: bytes) -> None:
        """Cut the file where its last whole line ends."""
        torn = len(sent) - (sent.rfind(b"\n") + 1)
        if torn and self._is_file:
            os.ftruncate(self._descriptor, os.lseek(self._descriptor, 0, os.SEEK_CUR) - torn)

    def _why(self, error: OSError) -> str:
        if error.errno == errno.EPIPE:
            return f"cannot write {self.name}: whoever read it has closed it"
        return f"cannot write {self.name}: {error.strerror}"


def _open(path: str, leave: Callable[[], bool]) -> int:
    """A descriptor of `path`; a FIFO is waited for until somebody reads it, or `leave` says otherwise."""
    # Never wait inside open: Python goes on waiting there after a signal.
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
            if leave():
                raise OutputError(f"cannot write {path}: nobody reads it") from error
            time.sleep(PATIENCE / 1000)
        else:
            os.set_blocking(descriptor, True)
            return descriptor


def without_our_frames(traceback: str) -> str:
    """A traceback's text from the user's first frame on; how we came to call it is no news."""
    head, *frames = re.split(r'^(?=  File ")', traceback, flags=re.MULTILINE)
    theirs = itertools.dropwhile(lambda frame: frame.startswith(f'  File "{OUR_FOLDER}'), frames[:-1])
    return "".join([head, *theirs, *frames[-1:]])  # the last one has the error itself


def error_row(number: int, row: Row, kind: str, message: str, traceback: str) -> bytes:
    """The row of an input without a value: the input, its number (from 0), its line (from 1), the error."""
    where = {"number": number} if row.line is None else {"number": number, "line": row.line}
    rest = to_json({**where, "error": {"type": kind, "message": message, "traceback": without_our_frames(traceback)}})
    return b'{"input": ' + row.as_json() + b", " + rest[1:]
