"""Where inputs come from: a file, standard input or a glob pattern. Rows are read as they are asked for.

A row that cannot be read is a row all the same, with its `fault` instead of a value. What makes all rows
unreadable (no such file, UTF-16, a header that names a column twice) is an `InputError`.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import select
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple, NoReturn, Protocol

from procoro.cli.answer import to_json

COUNTED = 4 << 20  # bytes; up to here a file is read through beforehand to know its rows (some 50 ms)
CSV_FIELD = 64 << 20  # characters; csv's own limit of 131,072 is too low, and an open quote must end somewhere

NOT_UTF8 = {
    b"\xff\xfe": "UTF-16 or UTF-32; convert it with `iconv -t UTF-8`",
    b"\xfe\xff": "UTF-16; convert it with `iconv -t UTF-8`",
    b"\x1f\x8b": "compressed; use `zcat FILE | procoro map FUNCTION -`",
}
BOM = b"\xef\xbb\xbf"


class InputError(Exception):
    """The inputs cannot be read, or not on from here; the message says where and why."""


class Row(NamedTuple):
    """One input. With a `fault` no call is made of it, and `value` is the text that was found."""

    value: object
    line: int | None = None  # where it begins, from 1; None: inputs have no lines
    text: str | None = None  # the value as the JSON that was read
    fault: str | None = None

    def as_json(self) -> bytes:
        """The input as it stands in an error row: as it was written, where it was JSON."""
        return to_json(self.value) if self.text is None else self.text.encode()


class Total(NamedTuple):
    """How many rows there are."""

    rows: int
    exact: bool  # False: estimated from the bytes read so far


class Source(Protocol):
    """What rows are read from, once."""

    name: str  # for messages

    def rows(self) -> Iterator[Row]:
        """Read on. May be pulled by another thread than the one that asks for the total.

        Raises:
            InputError: while iterating.
        """
        ...

    def total(self) -> Total | None:
        """How many rows there are, as far as it can be known by now."""
        ...


class Globbed:
    """The paths that match a pattern, sorted by code point. `**` stands for any number of folders.

    Folders count only when the pattern ends with a slash.

    Raises:
        InputError: nothing matches.
    """

    def __init__(self, pattern: str) -> None:
        self.name = f"--glob {pattern}"
        found = glob.glob(os.path.expanduser(pattern), recursive=True)
        self.paths = sorted(found if pattern.endswith(os.sep) else filter(os.path.isfile, found))
        if not self.paths:
            raise InputError(f"no file matches {pattern!r}")

    def rows(self) -> Iterator[Row]:
        return map(Row, self.paths)

    def total(self) -> Total:
        return Total(len(self.paths), exact=True)


class TextFile:
    """The rows of a file in one of the `FORMATS`; `path` may be a descriptor, which is closed at the end.

    Raises:
        InputError: a file cannot be opened, or its first row shows that none can be read. Pipes are not
            looked into beforehand.
    """

    def __init__(self, name: str, path: str | int, kind: str) -> None:
        self.name = name
        self._path = path
        self._parse = FORMATS[kind]
        self._bytes_read = 0
        self._rows_read = 0
        self._ended = False
        self._size = self._size_of_file()
        self._counted = self._look_into() if self._size is not None else None

    def rows(self) -> Iterator[Row]:
        # Opened and closed here, in the thread that pulls: closing a file that another reads would block.
        with self._open() as file:
            for row in self._parse(self.name, self._lines(file)):
                self._rows_read += 1
                yield row
        self._ended = True

    def total(self) -> Total | None:
        if self._ended:
            return Total(self._rows_read, exact=True)
        if self._counted is not None:
            return Total(max(self._counted, self._rows_read), exact=True)
        if self._size is None or self._bytes_read == 0:
            return None
        return Total(max(self._rows_read * self._size // self._bytes_read, self._rows_read), exact=False)

    def _size_of_file(self) -> int | None:
        """Bytes; None: not a regular file at its beginning, so that it can be read only once."""
        if isinstance(self._path, int):
            return None
        try:
            status = os.stat(self._path)
        except OSError as error:
            raise InputError(f"cannot read {self.name}: {error.strerror}") from error
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{self.name} is a folder; --glob '{self.name.rstrip('/')}/*' names the files in it")
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def _look_into(self) -> int | None:
        """Read the first row, or all rows of a small file; return how many there are, if that is known."""
        assert self._size is not None
        with self._open() as file:
            rows = self._parse(self.name, self._lines(file))
            counted = sum(1 for _ in rows) if self._size <= COUNTED else None
            next(rows, None)
        self._bytes_read = 0
        return counted

    def _open(self) -> BinaryIO:
        try:
            return io.BufferedReader(_Waiting(self._path))
        except OSError as error:
            raise InputError(f"cannot read {self.name}: {error.strerror}") from error

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        """The lines of `file` without a byte order mark; each as soon as it is there."""
        first = True
        try:
            for line in file:
                self._bytes_read += len(line)
                if not first:
                    yield line
                elif text := self._first(line):  # a mark alone is no line
                    yield text
                first = False
        except OSError as error:
            raise InputError(f"cannot read on in {self.name}: {error.strerror}") from error

    def _first(self, line: bytes) -> bytes:
        if (why := NOT_UTF8.get(line[:2])) is not None:
            raise InputError(f"{self.name} is not UTF-8 but {why}")
        return line.removeprefix(BOM)


class _Waiting(io.FileIO):
    """Waits for what is not there yet, also where a neighbour made the caller's pipe non-blocking.

    A `BufferedReader` takes "nothing now" for the end of the file.
    """

    def readinto(self, buffer: Any) -> int:
        while (read := super().readinto(buffer)) is None:
            poll = select.poll()
            poll.register(self, select.POLLIN)
            poll.poll()
        return read


def guess_format(path: str) -> str:
    """The format that a file's name promises: `.jsonl` and `.ndjson`, `.csv`; plain lines otherwise."""
    extension = os.path.splitext(path)[1].lower()
    return {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}.get(extension, "lines")


def plain_rows(name: str, lines: Iterable[bytes]) -> Iterator[Row]:
    """Each line is an input, without its end; also an empty one."""
    for number, line in enumerate(lines, 1):
        try:
            yield Row(_without_end(line.decode()), number)
        except UnicodeDecodeError as error:
            yield _not_utf8(name, number, line, error)


def jsonl_rows(name: str, lines: Iterable[bytes]) -> Iterator[Row]:
    """Each line is one JSON value; blank lines are passed over. NaN and the infinities are not JSON."""
    for number, line in enumerate(lines, 1):
        if line.isspace() or not line:
            continue
        try:
            text = _without_end(line.decode())
            yield Row(_decode(text), number, text)
        except UnicodeDecodeError as error:
            yield _not_utf8(name, number, line, error)
        except json.JSONDecodeError as error:
            fault = f"{name} line {number} is not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
            yield Row(text, number, fault=fault)
        except (ValueError, RecursionError) as error:  # a constant, an integer too long, nesting too deep
            yield Row(text, number, fault=f"{name} line {number} is not JSON: {error}")


def csv_rows(name: str, lines: Iterable[bytes]) -> Iterator[Row]:
    """Each record under the header is a dict of str by column; blank lines are passed over.

    Raises:
        InputError: the header names a column twice, or is not UTF-8.
    """
    csv.field_size_limit(CSV_FIELD)
    records = _records(name, lines)
    header = next(records, None)
    if header is None:
        return
    columns = _columns(name, header)
    for record in records:
        if record.fault is not None:
            yield Row(record.text, record.line, fault=record.fault)
        elif len(record.fields) != len(columns):
            fault = f"{name} line {record.line} has {len(record.fields)} fields, the header has {len(columns)}"
            yield Row(record.text, record.line, fault=fault)
        else:
            yield Row(dict(zip(columns, record.fields, strict=True)), record.line)


class _Record(NamedTuple):
    """The fields of one CSV record, or why it has none; `line` is where it begins, `text` its source."""

    line: int
    text: str
    fields: list[str]
    fault: str | None = None


def _records(name: str, lines: Iterable[bytes]) -> Iterator[_Record]:
    texts: list[str] = []  # of the record that is being read: it may go over several lines
    broken: list[UnicodeDecodeError] = []

    def decoded() -> Iterator[str]:
        for line in lines:
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                broken.append(error)
                text = line.decode(errors="backslashreplace")
            texts.append(text)
            yield text

    # Strict: a stray quote is told, instead of eating the rest of the file without a word.
    reader = csv.reader(decoded(), strict=True)
    while True:
        line, fields, fault = reader.line_num + 1, list[str](), None
        texts.clear()
        broken.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = f"{name} line {line} is not CSV: {error}"
        if broken:
            fault = f"{name} line {line} is not UTF-8: {broken[0].reason}"
        if fields or fault:
            yield _Record(line, _without_end("".join(texts)), fields, fault)


def _columns(name: str, header: _Record) -> list[str]:
    if header.fault is not None:
        raise InputError(header.fault)
    for index, column in enumerate(header.fields):
        if column in header.fields[:index]:
            raise InputError(f"{name}: the header in line {header.line} names the column {column!r} twice")
    return header.fields


def _not_utf8(name: str, number: int, line: bytes, error: UnicodeDecodeError) -> Row:
    fault = f"{name} line {number} is not UTF-8: {error.reason} at byte {error.start}"
    return Row(_without_end(line.decode(errors="backslashreplace")), number, fault=fault)


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"it has {constant}, which is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode  # made once: json.loads would for each line

FORMATS: dict[str, Callable[[str, Iterable[bytes]], Iterator[Row]]] = {
    "lines": plain_rows,
    "jsonl": jsonl_rows,
    "csv": csv_rows,
}
