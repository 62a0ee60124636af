import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procoro.cli.inputs import (
    COUNTED,
    FORMATS,
    Globbed,
    InputError,
    Row,
    TextFile,
    csv_rows,
    guess_format,
    jsonl_rows,
    plain_rows,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
texts = st.text(st.characters(codec="utf-8"))


def values(rows: Iterable[Row]) -> list[object]:
    return [row.value for row in rows]


def faults(rows: Iterable[Row]) -> list[str | None]:
    return [row.fault for row in rows]


@given(st.lists(json_values))
def test_jsonl_gives_the_values_that_were_written(expected: list[object]) -> None:
    data = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in expected)
    found = list(jsonl_rows("x", io.BytesIO(data.encode(errors="surrogatepass"))))
    good = [row for row in found if row.fault is None]
    assert values(good) == [value for value, row in zip(expected, found, strict=True) if row.fault is None]
    assert [json.loads(row.as_json()) for row in good] == values(good)


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"))),
    st.sampled_from(["\n", "\r\n"]),
)
def test_plain_lines_are_given_without_their_ends(expected: list[str], end: str) -> None:
    data = "".join(line + end for line in expected).encode()
    assert values(plain_rows("x", io.BytesIO(data))) == expected


@given(st.lists(texts, min_size=2, max_size=5, unique=True), st.data())
def test_csv_gives_what_the_csv_module_wrote(columns: list[str], data: st.DataObject) -> None:
    records = data.draw(st.lists(st.lists(texts, min_size=len(columns), max_size=len(columns))))
    written = io.StringIO(newline="")
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([columns, *records])
    found = list(csv_rows("x", io.BytesIO(written.getvalue().encode())))
    assert values(found) == [dict(zip(columns, record, strict=True)) for record in records]


@given(st.sampled_from(sorted(FORMATS)), st.binary() | st.text('",\n\r{}[]1aé').map(str.encode))
def test_whatever_the_bytes_each_row_has_a_value_or_a_fault(kind: str, data: bytes) -> None:
    header = b"a,b\n" if kind == "csv" else b""  # a bad header is for all rows, and raises
    found = list(FORMATS[kind]("x", io.BytesIO(header + data)))
    numbers = [row.line or 0 for row in found]
    assert numbers == sorted(set(numbers))
    for row in found:
        json.loads(row.as_json())
        assert row.fault is None or f"line {row.line} " in row.fault


@pytest.mark.parametrize(
    "line, words",
    [
        (b"{", "x line 2 is not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b"NaN", "x line 2 is not JSON: it has NaN, which is not JSON"),
        (b"[-Infinity]", "x line 2 is not JSON: it has -Infinity, which is not JSON"),
        (b'"\xff"', "x line 2 is not UTF-8: invalid start byte at byte 1"),
        (b"1" * 5000, "x line 2 is not JSON: Exceeds the limit"),
        (b"[" * 100_000, "x line 2 is not JSON: "),
    ],
)
def test_a_bad_jsonl_line_is_a_row_that_says_why(line: bytes, words: str) -> None:
    before, bad, after = jsonl_rows("x", [b"1\n", line + b"\n", b"3\n"])
    assert (before.value, after.value) == (1, 3)
    assert bad.fault is not None
    assert bad.fault.startswith(words)


def test_an_input_stands_in_an_error_row_as_it_was_written() -> None:
    (row,) = jsonl_rows("x", [b' {"a": 1e999, "b": 1.50} \r\n'])
    assert row.as_json().strip() == b'{"a": 1e999, "b": 1.50}'


def test_blank_lines_count_only_among_plain_lines() -> None:
    lines = [b"a\n", b"\n", b"  \n", b"1\n"]
    assert values(plain_rows("x", lines)) == ["a", "", "  ", "1"]
    assert [row.line for row in jsonl_rows("x", lines)] == [1, 4]
    assert values(csv_rows("x", [b"\n", b"a,b\n", b"\n", b"1,2\n"])) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    "record, words",
    [
        (b"1\n", "x line 2 has 1 fields, the header has 2"),
        (b"1,2,3\n", "x line 2 has 3 fields, the header has 2"),
        (b'"1"x,2\n', "x line 2 is not CSV: ',' expected after '\"'"),
        (b"\xff,2\n", "x line 2 is not UTF-8: invalid start byte"),
    ],
)
def test_a_bad_csv_record_is_a_row_that_says_why(record: bytes, words: str) -> None:
    bad, after = csv_rows("x", [b"a,b\n", record, b"3,4\n"])
    assert bad.fault == words
    assert after.value == {"a": "3", "b": "4"}


def test_a_quote_that_is_never_closed_is_told_with_the_line_where_it_opens() -> None:
    _, bad = csv_rows("x", [b"a,b\n", b"1,2\n", b'"3,4\n', b"5,6\n"])
    assert bad.fault == "x line 3 is not CSV: unexpected end of data"
    assert bad.value == '"3,4\n5,6'


def test_a_header_that_names_a_column_twice_is_refused() -> None:
    with pytest.raises(InputError, match="x: the header in line 1 names the column 'a' twice"):
        list(csv_rows("x", [b"a,b,a\n", b"1,2,3\n"]))


def test_a_huge_line_is_an_input_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    path.write_bytes(b"a\n" + b"x" * (2 * COUNTED) + b"\n")
    assert [len(row.value["a"]) for row in TextFile("huge", str(path), "csv").rows()] == [2 * COUNTED]  # type: ignore[index]


@pytest.mark.parametrize(
    "path, kind",
    [
        ("a.jsonl", "jsonl"),
        ("a.NDJSON", "jsonl"),
        ("d.csv/a.csv", "csv"),
        ("a.txt", "lines"),
        ("csv", "lines"),
    ],
)
def test_the_ending_tells_the_format(path: str, kind: str) -> None:
    assert guess_format(path) == kind


@pytest.mark.parametrize("kind", sorted(FORMATS))
@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_rows(tmp_path: Path, kind: str, data: bytes) -> None:
    path = tmp_path / "empty"
    path.write_bytes(data)
    source = TextFile("empty", str(path), kind)
    assert source.total() == (0, True)
    assert list(source.rows()) == []


def test_a_byte_order_mark_is_no_part_of_the_first_input(tmp_path: Path) -> None:
    path = tmp_path / "marked.csv"
    path.write_bytes(b"\xef\xbb\xbfa\n1\n")
    assert values(TextFile("marked", str(path), "csv").rows()) == [{"a": "1"}]


@pytest.mark.parametrize(
    "data, words",
    [
        ("a".encode("utf-16"), "x is not UTF-8 but UTF-16"),
        (b"\x1f\x8b\x08\x00", "x is not UTF-8 but compressed"),
    ],
)
def test_what_cannot_be_utf8_is_refused_at_once(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words):
        TextFile("x", str(path), "lines")


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read x: No such file"):
        TextFile("x", str(tmp_path / "x"), "lines")
    with pytest.raises(InputError, match=r"folder is a folder; --glob 'folder/\*' names the files in it"):
        TextFile("folder", str(tmp_path), "lines")


def test_a_pipe_is_read_as_it_comes() -> None:
    reading, writing = os.pipe()
    source = TextFile("pipe", reading, "lines")
    found = source.rows()
    with open(writing, "wb", buffering=0) as pipe:
        for line in (b"one\n", b"two\n"):
            pipe.write(line)
            assert next(found).value == line.decode().strip()
        assert source.total() is None
    assert list(found) == []
    assert source.total() == (2, True)


def test_the_rows_of_a_small_file_are_counted_beforehand(tmp_path: Path) -> None:
    path = tmp_path / "small.jsonl"
    path.write_text("1\n\n2\nbad\n")
    assert TextFile("small", str(path), "jsonl").total() == (3, True)


def test_the_rows_of_a_big_file_are_estimated_from_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "big.txt"
    count = COUNTED // 8 + 1
    path.write_bytes(b"1234567\n" * count)
    source = TextFile("big", str(path), "lines")
    assert source.total() is None
    found = source.rows()
    next(found)
    assert source.total() == (count, False)
    assert sum(1 for _ in found) == count - 1
    assert source.total() == (count, True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.py", "a.py", "deep/er/c.py", "deep/d.txt", "not_a_file.py/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_glob_gives_sorted_paths_of_files(folder: Path) -> None:
    source = Globbed("**/*.py")
    assert values(source.rows()) == ["a.py", "b.py", "deep/er/c.py"]
    assert source.total() == (3, True)
    assert values(Globbed(f"{folder}/*.py").rows()) == [f"{folder}/a.py", f"{folder}/b.py"]
    assert values(Globbed("*.py/").rows()) == ["not_a_file.py/"]


def test_a_glob_that_matches_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no file matches '\*\.rs'"):
        Globbed("*.rs")
