import json
import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procoro.cli.inputs import Row
from procoro.cli.output import BATCH, OutputError, RowFile, error_row, without_our_frames


def test_rows_are_there_after_a_flush(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"of an earlier run")
    with RowFile.create(str(path)) as file:
        file.empty()
        file.write(b"1")
        file.write(b"2")
        assert path.read_bytes() == b""
        file.flush()
        assert path.read_bytes() == b"1\n2\n"
        file.write(b"3")
    assert path.read_bytes() == b"1\n2\n3\n"


def test_a_full_batch_is_written_unasked(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with RowFile.create(str(path)) as file:
        file.write(b"x" * BATCH)
        assert path.stat().st_size == BATCH + 1


def test_a_disk_that_fills_up_keeps_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = RowFile.create(str(path))
    for row in (b"a" * 40, b"b" * 40, b"c" * 40):
        file.write(row)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OutputError, match=f"cannot write {path}: File too large"):
            file.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    file.close()
    assert path.read_bytes() == b"a" * 40 + b"\n" + b"b" * 40 + b"\n"


def test_a_full_device_is_named() -> None:
    file = RowFile.create("/dev/full")
    file.write(b"1")
    with pytest.raises(OutputError, match="cannot write /dev/full: No space left on device"):
        file.close()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*/none/out: No such file or directory"):
        RowFile.create(str(tmp_path / "none" / "out"))


def test_a_reader_that_has_gone_is_told() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    file = RowFile("standard output", writing)
    file.write(b"1")
    with pytest.raises(OutputError, match="cannot write standard output: whoever read it has closed it"):
        file.close()


def test_nobody_waits_for_ever_for_a_reader_that_does_not_read() -> None:
    reading, writing = os.pipe()
    asked: list[bool] = []

    def give_up() -> bool:
        asked.append(True)
        return len(asked) == 2

    file = RowFile("standard output", writing, give_up)
    with pytest.raises(OutputError, match="standard output was not read from any more"):
        file.write(b"x" * (1 << 20))  # a pipe holds 64 KiB
    assert len(asked) == 2
    file.close()
    os.close(reading)


@pytest.mark.parametrize(
    "row, where",
    [(Row("a.py"), {}), (Row([1], 3, "[1]"), {"line": 3}), (Row("b\udcff", 1, fault="bad"), {"line": 1})],
)
def test_an_error_row_has_the_input_and_the_error(row: Row, where: dict[str, int]) -> None:
    assert json.loads(error_row(5, row, "ValueError", "a\nb", "")) == {
        "input": row.value,
        "number": 5,
        **where,
        "error": {"type": "ValueError", "message": "a\nb", "traceback": ""},
    }


@given(st.text(), st.text(), st.text())
def test_an_error_row_is_one_line_whatever_the_words(kind: str, message: str, traceback: str) -> None:
    row = error_row(0, Row("x"), kind, message, traceback)
    assert b"\n" not in row
    assert json.loads(row)["error"]["message"] == message


def test_a_traceback_begins_with_the_users_own_frame() -> None:
    ours = Path(without_our_frames.__code__.co_filename)
    head, theirs = "Traceback (most recent call last):\n", '  File "/home/x/f.py", line 4, in f\n    1 / 0\n'
    mine = f'  File "{ours.with_name("answer.py")}", line 71, in _answer\n    return function()\n'
    end = "ZeroDivisionError: division by zero\n"
    assert without_our_frames(head + mine + theirs + end) == head + theirs + end
    assert without_our_frames(head + mine + end) == head + mine + end  # a call with the wrong arguments
    assert without_our_frames("") == ""


def test_what_a_file_holds_is_there_until_it_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old\n")
    with RowFile.create(str(path)) as file:
        assert path.read_text() == "old\n"
        file.empty()
        file.write(b"new")
    assert path.read_text() == "new\n"
