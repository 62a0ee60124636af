"""`procoro map` from end to end, in processes of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PATIENCE, Start, function, rows

Map = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """The numbers 0 to 5, one a line."""
    path = tmp_path / "numbers.jsonl"
    path.write_text("".join(f"{number}\n" for number in range(6)))
    return path


def errors(found: list[Any]) -> list[tuple[int, str, str]]:
    """Number, type and message of the error rows."""
    return [(row["number"], row["error"]["type"], row["error"]["message"]) for row in found if isinstance(row, dict)]


def test_each_input_has_its_row_in_order(procoro_map: Map, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(f'["雪芙", {number}]\n' for number in range(3000)))
    done = procoro_map(function("double"), "in.jsonl", "-o", "out.jsonl")
    assert (done.returncode, done.stdout) == (0, "")
    assert rows(tmp_path / "out.jsonl") == [["雪芙", number] * 2 for number in range(3000)]
    assert done.stderr.startswith("done 3,000, failed 0, ")


def test_unordered_has_the_same_rows(procoro_map: Map, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(f"{number}\n" for number in range(3000)))
    done = procoro_map(function("odd_fails"), "in.jsonl", "-o", "out.jsonl", "--errors", "bad.jsonl", "--unordered")
    assert done.returncode == 1
    assert sorted(rows(tmp_path / "out.jsonl")) == list(range(0, 3000, 2))
    failed = rows(tmp_path / "bad.jsonl")
    assert all(row["input"] == row["number"] == row["line"] - 1 for row in failed)
    assert sorted(row["number"] for row in failed) == list(range(1, 3000, 2))


@pytest.mark.parametrize("name", ["double", "double_later"])
def test_plain_and_async_functions_are_called(procoro_map: Map, numbers: Path, name: str) -> None:
    done = procoro_map(function(name), numbers)
    assert (done.returncode, done.stdout) == (0, "0\n2\n4\n6\n8\n10\n")


@pytest.mark.parametrize("name", ["nameless", "shouter.shout", "Shouter.whisper"])
def test_whatever_has_a_name_can_be_called(procoro_map: Map, name: str) -> None:
    done = procoro_map(function(name), "-", given="a\nb\n")
    expected = {"nameless": '"a"\n"b"\n', "shouter.shout": '"A!"\n"B!"\n', "Shouter.whisper": '"a"\n"b"\n'}
    assert (done.returncode, done.stdout) == (0, expected[name])


def test_a_module_is_named_from_the_current_folder(procoro_map: Map, tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text("def length(text): return len(text)\n")
    done = procoro_map("my_module:length", "-", given="a\nbcd\n")
    assert (done.returncode, done.stdout) == (0, "1\n3\n")


def test_csv_records_come_as_dicts(procoro_map: Map, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('a,b\n1,"x\ny"\n\n2\n3,z\n')
    done = procoro_map(function("echo"), "in.csv")
    assert done.returncode == 1
    good, bad, last = map(json.loads, done.stdout.splitlines())
    assert (good, last) == ({"a": "1", "b": "x\ny"}, {"a": "3", "b": "z"})
    assert (bad["input"], bad["line"], bad["number"]) == ("2", 5, 1)


def test_a_glob_gives_paths(procoro_map: Map, tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "deep/c.txt", "d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    done = procoro_map(function("echo"), "--glob", "**/*.txt")
    assert (done.returncode, done.stdout) == (0, '"a.txt"\n"b.txt"\n"deep/c.txt"\n')


@pytest.mark.parametrize("name", ["in.jsonl", "in.csv", "in.txt"])
def test_no_inputs_make_an_empty_file(procoro_map: Map, tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    done = procoro_map(function("echo"), name, "-o", "out.jsonl")
    assert (done.returncode, (tmp_path / "out.jsonl").read_bytes()) == (0, b"")


def test_a_bad_line_is_an_error_row_in_its_place_and_the_run_goes_on(procoro_map: Map, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'0\n\n{"a":\n2\n"\xff"\nNaN\n')
    done = procoro_map(function("odd_fails"), "in.jsonl", "-o", "out.jsonl")
    assert done.returncode == 1
    found = rows(tmp_path / "out.jsonl")
    assert (found[0], found[2]) == (0, 2)
    assert found[1] == {
        "input": '{"a":',
        "number": 1,
        "line": 3,
        "error": {
            "type": "BadInput",
            "message": "in.jsonl line 3 is not JSON: Expecting value at column 6",
            "traceback": "",
        },
    }
    assert errors(found[3:]) == [
        (3, "BadInput", "in.jsonl line 5 is not UTF-8: invalid start byte at byte 1"),
        (4, "BadInput", "in.jsonl line 6 is not JSON: it has NaN, which is not JSON"),
    ]
    assert "3 of 5 inputs failed: their error rows are in OUT" in done.stderr


def test_a_failed_call_is_a_row_with_its_input_and_the_users_traceback(procoro_map: Map, numbers: Path) -> None:
    done = procoro_map(function("odd_fails"), numbers, "--max-failures", "3")
    assert done.returncode == 1
    found = list(map(json.loads, done.stdout.splitlines()))
    assert [row for row in found if isinstance(row, int)] == [0, 2, 4]
    assert errors(found) == [(n, "ValueError", f"{n} is odd") for n in (1, 3, 5)]
    traceback = found[1]["error"]["traceback"].splitlines()
    assert traceback[0] == "Traceback (most recent call last):"
    assert "sample_functions.py" in traceback[1]
    assert traceback[-1] == "ValueError: 1 is odd"


def test_the_error_rows_go_to_their_file(procoro_map: Map, numbers: Path, tmp_path: Path) -> None:
    done = procoro_map(function("odd_fails"), numbers, "-o", "out.jsonl", "--errors", "bad.jsonl")
    assert done.returncode == 1
    assert rows(tmp_path / "out.jsonl") == [0, 2, 4]
    assert [row["input"] for row in rows(tmp_path / "bad.jsonl")] == [1, 3, 5]
    assert "3 of 6 inputs failed: their error rows are in bad.jsonl" in done.stderr


def test_a_value_that_is_not_json_is_an_error_row(procoro_map: Map) -> None:
    done = procoro_map(function("unwritable"), "-", "--retries", "3", given="set\nnan\nfine\nkey\n")
    found = list(map(json.loads, done.stdout.splitlines()))
    assert found[2] == "fine"
    assert errors(found) == [
        (0, "NotJSON", "result['tags']: a set is not JSON"),
        (1, "NotJSON", "result[1]: nan is not JSON"),
        (3, "NotJSON", "result: the key (1, 2) is a tuple; JSON has str keys"),
    ]


def test_a_call_that_exits_or_has_the_wrong_signature_is_an_error_row(procoro_map: Map, numbers: Path) -> None:
    done = procoro_map(function("leaves"), numbers)
    assert errors(list(map(json.loads, done.stdout.splitlines()))) == [(3, "SystemExit", "enough")]
    done = procoro_map(function("takes_nothing"), numbers)
    found = errors(list(map(json.loads, done.stdout.splitlines())))
    assert [(number, kind) for number, kind, _ in found] == [(number, "TypeError") for number in range(6)]


def test_the_file_of_the_function_is_not_written_over(procoro_map: Map, numbers: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def same(x):\n    return x\n")
    done = procoro_map(f"{file}:same", numbers, "-o", file)
    assert done.returncode == 2 and "FUNCTION stands in" in done.stderr
    assert "def same" in file.read_text()


def test_a_call_that_raises_stop_iteration_is_an_error_row(procoro_map: Map, numbers: Path) -> None:
    """As a bare `next()` in the function does."""
    done = procoro_map(function("has_no_next"), numbers)
    found = list(map(json.loads, done.stdout.splitlines()))
    assert [row for row in found if isinstance(row, int)] == [0, 1, 2, 4, 5]
    assert [number for number, _, _ in errors(found)] == [3]


def test_a_worker_that_kills_itself_costs_one_row(procoro_map: Map, numbers: Path) -> None:
    done = procoro_map(function("dies_at_three"), numbers)
    found = list(map(json.loads, done.stdout.splitlines()))
    assert [row for row in found if isinstance(row, int)] == [0, 1, 2, 4, 5]
    ((number, kind, message),) = errors(found)
    assert (number, kind) == (3, "WorkerDied")
    assert "SIGKILL" in message
    assert message.startswith("dies_at_three(3) [call 3]")


def test_a_worker_killed_by_hand_costs_one_row(start: Start, gate: Any, tmp_path: Path) -> None:
    lines = [f"{gate.folder} gate" if n == 500 else str(n) for n in range(1000)]
    (tmp_path / "in.txt").write_text("".join(f"{line}\n" for line in lines))
    process = start(function("stands_at_gate"), "in.txt", "-o", "out.jsonl", "--workers", 2)
    pid = gate.reached()
    os.kill(pid, 9)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, said
    found = rows(tmp_path / "out.jsonl")
    assert [row for row in found if isinstance(row, str)] == [line for line in lines if line.isdecimal()]
    ((number, kind, message),) = errors(found)
    assert (number, kind) == (500, "WorkerDied")
    assert str(pid) in message


def test_a_call_beyond_its_time_costs_one_row(procoro_map: Map, numbers: Path) -> None:
    done = procoro_map(function("hangs_at_three"), numbers, "--timeout", "0.5")
    found = list(map(json.loads, done.stdout.splitlines()))
    assert [row for row in found if isinstance(row, int)] == [0, 1, 2, 4, 5]
    assert [error[:2] for error in errors(found)] == [(3, "CallTimeout")]


def test_a_call_beyond_its_memory_costs_one_row(procoro_map: Map, numbers: Path) -> None:
    done = procoro_map(function("eats_at_three"), numbers, "--memory-limit", "200 MiB")
    found = list(map(json.loads, done.stdout.splitlines()))
    assert [row for row in found if isinstance(row, int)] == [0, 1, 2, 4, 5]
    assert [error[:2] for error in errors(found)] == [(3, "MemoryLimitExceeded")]


def test_a_failed_call_is_tried_again_only_when_asked(procoro_map: Map, tmp_path: Path) -> None:
    done = procoro_map(function("fails_once"), "-", given="one\n")
    assert errors([json.loads(done.stdout)]) == [(0, "ConnectionError", "try again")]
    done = procoro_map(function("fails_once"), "-", "--retries", "1", given="two\n")
    assert (done.returncode, done.stdout) == (0, '"second attempt"\n')


def test_prints_and_input_of_the_function_do_not_touch_the_rows(procoro_map: Map) -> None:
    done = procoro_map(function("talks"), "-", given="a\nb\nc\n")
    assert (done.returncode, done.stdout) == (0, '"a"\n"b"\n"c"\n')
    assert "print of b" in done.stderr
    assert "input said ''" in done.stderr


def test_prints_stay_on_standard_output_while_rows_go_to_a_file(procoro_map: Map, numbers: Path) -> None:
    done = procoro_map(function("talks"), numbers, "-o", "out.jsonl")
    assert done.stdout.count("print of ") == 6


def test_quiet_says_only_what_is_wrong(procoro_map: Map, numbers: Path) -> None:
    assert procoro_map(function("double"), numbers, "--quiet").stderr == ""
    said = procoro_map(function("odd_fails"), numbers, "--quiet").stderr
    assert said == "procoro map: 3 of 6 inputs failed: their error rows are in OUT\n"


def test_the_format_can_be_said(procoro_map: Map) -> None:
    assert procoro_map(function("double"), "-", "--format", "jsonl", given="1\n[2]\n").stdout == "2\n[2, 2]\n"
    assert procoro_map(function("echo"), "-", "--format", "csv", given="a\n1\n").stdout == '{"a": "1"}\n'
    assert procoro_map(function("double"), "-", given="1\n").stdout == '"11"\n'


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["{f}:double"], "neither INPUTS nor --glob given"),
        (["{f}:double", "in.jsonl", "--glob", "*.jsonl"], "a pattern must be quoted"),
        (["{f}:double", "--glob", "*.txt", "--format", "csv"], "--format is for INPUTS"),
        (["{f}:double", "--glob", "*.none"], "no file matches '*.none'"),
        (["{f}:double", "none.jsonl"], "cannot read none.jsonl: No such file or directory"),
        (["{f}:double", "."], ". is a folder"),
        (
            ["{f}:double", "in.jsonl", "-o", "in.jsonl"],
            "in.jsonl is an input, and rows would be written over it",
        ),
        (["{f}:double", "--glob", "*.jsonl"], "out.jsonl is an input, and rows would be written over it"),
        (["{f}:double", "in.jsonl", "--errors", "link"], "--errors and --out are the same file"),
        (
            ["{f}:double", "in.jsonl", "--errors", "none/bad"],
            "cannot write none/bad: No such file or directory",
        ),
        (["{f}:dubble", "in.jsonl"], "did you mean double?"),
        (["no_such_module:f", "in.jsonl"], "there is no module 'no_such_module'"),
        (["{f}:double", "in.jsonl", "--timeout", "-1"], "timeout must be > 0 seconds"),
        (["{f}:double", "in.jsonl", "--timeout", "soon"], "'soon' is not a valid float"),
        (["{f}:double", "in.jsonl", "--memory-limit", "much"], "much"),
        (["{f}:double", "in.jsonl", "--workers", "0"], "0 is not in the range x>=1"),
        (["{f}:double", "in.jsonl", "--max-failures", "-1"], "-1 is not in the range x>=0"),
        (["{f}:double", "in.jsonl", "more.jsonl"], "unexpected extra argument"),
        (["{f}:double", "utf16.txt"], "utf16.txt is not UTF-8 but UTF-16"),
        (["{f}:double", "twice.csv"], "the header in line 1 names the column 'a' twice"),
    ],
)
def test_a_wrong_command_line_is_told_and_touches_nothing(
    procoro_map: Map, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "in.jsonl").write_text("1\n")
    (tmp_path / "out.jsonl").write_text("of an earlier run")
    (tmp_path / "link").symlink_to("out.jsonl")
    (tmp_path / "utf16.txt").write_bytes("abc".encode("utf-16"))
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    path = function("")[:-1]
    out = [] if "-o" in arguments else ["-o", "out.jsonl"]
    done = procoro_map(*(argument.format(f=path) for argument in arguments), *out)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Usage: " in done.stderr
    assert (tmp_path / "in.jsonl").read_text() == "1\n"
    if "none/bad" not in arguments:  # files are opened last, OUT before the other
        assert (tmp_path / "out.jsonl").read_text() == "of an earlier run"


@pytest.mark.parametrize("number, name", [(0, "input"), (1, "output")])
def test_a_closed_standard_stream_is_told(start: Start, number: int, name: str) -> None:
    process = start(function("double"), "-", preexec_fn=lambda: os.close(number))
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert f"Error: standard {name} is closed" in said


def test_a_module_that_fails_is_shown_with_its_traceback(procoro_map: Map, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def f(x):\n    return (\n")
    done = procoro_map("broken.py:f", "broken.py")
    assert done.returncode == 2
    assert "importing broken failed" in done.stderr
    assert "broken.py" in done.stderr
    assert "SyntaxError" in done.stderr


def test_the_command_line_loads_nothing_that_it_does_not_need() -> None:
    program = "import sys, procoro.cli.app; print(*sys.modules.keys() & {'rich', 'csv', 'asyncio', 'procoro.pool'})"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out == "\n"


def test_an_error_file_that_cannot_be_opened_costs_no_rows(procoro_map: Map, numbers: Path, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("old\n")
    done = procoro_map(function("double"), numbers, "-o", "out.jsonl", "--errors", "none/errors.jsonl")
    assert done.returncode == 2 and "none/errors.jsonl" in done.stderr
    assert (tmp_path / "out.jsonl").read_text() == "old\n"


Map = Callable[..., "subprocess.CompletedProcess[str]"]


def test_an_input_of_a_glob_is_not_written_over_by_another_name(procoro_map: Map, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("dear")
    (tmp_path / "link").symlink_to("b.txt")
    done = procoro_map(function("echo"), "--glob", "*.txt", "-o", "link")
    assert (done.returncode, done.stdout) == (2, "")
    assert "b.txt is an input, and rows would be written over it" in done.stderr
    assert (tmp_path / "b.txt").read_text() == "dear"


@pytest.mark.parametrize("option", ["-o", "--errors"])
def test_the_file_that_comes_by_standard_input_is_not_written_over(start: Start, tmp_path: Path, option: str) -> None:
    (tmp_path / "in.txt").write_text("dear\n")
    with open(tmp_path / "in.txt") as given:
        process = start(function("echo"), "-", option, "in.txt", stdin=given)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "the file of standard input is an input" in said
    assert (tmp_path / "in.txt").read_text() == "dear\n"


def test_standard_input_that_does_not_block_is_waited_for(start: Start) -> None:
    """A neighbour in the same shell may have made it so; what is not there yet is not the end."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    process = start(function("echo"), "-", stdin=ours)
    os.close(ours)
    assert process.stdout is not None
    os.write(theirs, b"a\nb")
    assert process.stdout.readline() == '"a"\n'
    os.write(theirs, b"c\n")
    assert process.stdout.readline() == '"bc"\n'
    os.close(theirs)
    assert process.wait(PATIENCE) == 0


def test_rows_for_the_terminal_stand_on_lines_of_their_own(start: Start, numbers: Path) -> None:
    ours, theirs = os.openpty()
    process = start(function("double"), numbers, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while more := os.read(ours, 1 << 16):
            shown += more
    except OSError:  # all have closed it
        pass
    os.close(ours)
    assert process.wait(PATIENCE) == 0
    assert shown.decode().splitlines()[:6] == [f"{2 * number}" for number in range(6)]


@pytest.mark.parametrize(
    "code, name, words",
    [
        ("def __getattr__(name):\n    import none_such\n", "plot", "looking up plot in lazy failed:"),
        ("class Thing:\n    x = property(lambda self: 1 // 0)\nthing = Thing()\n", "thing.x", "ZeroDivisionError"),
    ],
)
def test_a_name_whose_look_up_fails(start: Start, tmp_path: Path, code: str, name: str, words: str) -> None:
    (tmp_path / "lazy.py").write_text(code)
    process = start(f"lazy:{name}", "-", stdin=subprocess.DEVNULL)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and words in said and "procoro/cli" not in said


def test_a_function_that_only_returns_a_coroutine(procoro_map: Map, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("async def co(x):\n    return x\n\ndef wraps(x):\n    return co(x)\n")
    done = procoro_map("late:wraps", "-", given="1\n")
    assert done.returncode == 1 and "FUNCTION must be an `async def` that awaits it" in done.stdout
    assert "never awaited" not in done.stderr
