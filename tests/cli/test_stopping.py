"""How a run ends that cannot go on: signals, full disks, readers that leave, too many failures."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from procoro.cli.interrupts import Interrupts
from tests.cli.conftest import PATIENCE, Start, function, rows
from tests.gate import Gate
from tests.promises.looks import wait_until

Map = Callable[..., "subprocess.CompletedProcess[str]"]

MANY = 20_000  # inputs; more than a pool pulls ahead


@pytest.fixture
def queue_at_gate(tmp_path: Path, gate: Gate) -> Path:
    """Inputs for `stands_at_gate`: two pass, all others stand at the gate."""
    path = tmp_path / "queue.txt"
    path.write_text("first\nsecond\n" + f"{gate.folder} word\n" * (MANY - 2))
    return path


def heard(process: "subprocess.Popen[str]", words: str) -> str:
    """Read what the command says until `words` appear."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return line
    pytest.fail(f"the command ended without saying {words!r}")


def left(said: str) -> tuple[int, int, int]:
    """Of `interrupted: 12 of 20 inputs answered, 8 left`, the three numbers."""
    found = re.search(r"([\d,]+) of ([\d,]+) inputs answered, ([\d,]+) left", said)
    assert found, said
    answered, total, left = (int(number.replace(",", "")) for number in found.groups())
    return answered, total, left


def catches(pid: int, number: int) -> bool:
    """Has this process a handler for that signal?"""
    found = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(found and int(found[1], 16) >> number - 1 & 1)


@pytest.mark.parametrize("send", [os.kill, os.killpg])  # as a terminal and `timeout` do: to all its processes
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("order", ["ordered", "unordered"])
def test_the_first_signal_drains_and_says_what_is_left(
    start: Start,
    gate: Gate,
    queue_at_gate: Path,
    tmp_path: Path,
    send: Callable[[int, int], None],
    first: signal.Signals,
    order: str,
) -> None:
    arguments = ["-o", "out.jsonl", *(["--unordered"] if order == "unordered" else [])]
    process = start(function("stands_at_gate"), queue_at_gate, *arguments, start_new_session=True)
    gate.reached()
    send(process.pid, first)
    said = heard(process, "draining: ")
    assert re.fullmatch(r"draining: [\d,]+ calls under way, Ctrl-C again to stop now\n", said)
    gate.close()
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, said
    assert "procoro map: interrupted: " in said
    answered, total, rest = left(said)
    assert total == MANY
    assert rest == MANY - answered > 0
    found = rows(tmp_path / "out.jsonl")
    assert len(found) == answered > 2
    assert {"first", "second"} <= set(found)


def test_the_second_signal_stops_at_once(start: Start, gate: Gate, queue_at_gate: Path, tmp_path: Path) -> None:
    process = start(function("stands_at_gate"), queue_at_gate, "-o", "out.jsonl", "--workers", 2)
    gate.reached()
    gate.reached()  # both stand there: the first two are done, whether or not that has been told yet
    process.send_signal(signal.SIGINT)
    heard(process, "draining: ")
    process.send_signal(signal.SIGINT)  # nobody opens the gate
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    answered, total, rest = left(said)
    assert answered <= 2 and total == MANY and rest == MANY - answered
    assert rows(tmp_path / "out.jsonl") == ["first", "second"][:answered]


def test_a_signal_ends_the_waiting_for_standard_input(start: Start) -> None:
    process = start(function("double"), "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("a\n")
    process.stdin.flush()
    assert process.stdout.readline() == '"aa"\n'  # as it comes: the pipe is still open
    process.send_signal(signal.SIGINT)
    process.wait(timeout=PATIENCE)
    said = process.stderr.read() if process.stderr else ""
    assert process.returncode == 1
    assert "interrupted: 1 inputs answered, 0 left, and what standard input still holds" in said


def test_an_ignored_signal_stays_ignored(start: Start, gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(f"{gate.folder} word\n")
    process = start(
        function("stands_at_gate"), "in.txt", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    gate.reached()
    process.send_signal(signal.SIGINT)  # as the terminal does to what runs under `nohup` or in a script's background
    gate.open()
    out, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, '"word"\n'), said


def test_too_many_failures_stop_the_run(start: Start, gate: Gate, tmp_path: Path) -> None:
    lines = [*range(8), *[8] * MANY]
    (tmp_path / "in.jsonl").write_text("".join(f"{line}\n" for line in lines))
    process = start(function("odd_fails"), "in.jsonl", "-o", "out.jsonl", "--max-failures", 2)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    found = rows(tmp_path / "out.jsonl")
    assert [row if isinstance(row, int) else row["input"] for row in found] == [0, 1, 2, 3, 4, 5]
    assert "stopped: 3 inputs failed, --max-failures allows 2; 6 of 20,008 inputs answered, 20,002 left" in said


def test_no_failure_may_be_the_limit(procoro_map: Map, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("0\nbad\n1\n")
    done = procoro_map(function("double"), "in.jsonl", "--max-failures", 0)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert "stopped: 1 inputs failed, --max-failures allows 0; 2 of 3 inputs answered, 1 left" in done.stderr


@pytest.mark.parametrize("option", ["--out", "--errors"])
def test_a_full_disk_is_told_with_the_name_of_the_file(procoro_map: Map, tmp_path: Path, option: str) -> None:
    (tmp_path / "in.jsonl").write_text("".join(f"{number}\n" for number in range(MANY)))
    done = procoro_map(function("odd_fails"), "in.jsonl", option, "/dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "procoro map: cannot write /dev/full: No space left on device"


def test_a_reader_that_leaves_ends_the_run(start: Start, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(f"{number}\n" for number in range(10 * MANY)))
    process = start(function("double"), "in.jsonl", "--quiet")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.wait(timeout=PATIENCE) == 1
    said = process.stderr.read()
    assert said == "procoro map: cannot write standard output: whoever read it has closed it\n"


def test_the_second_signal_ends_the_waiting_for_a_reader_that_does_not_read(start: Start, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(f'"{number:0100}"\n' for number in range(10 * MANY)))
    process = start(function("echo"), "in.jsonl", "--quiet")
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline()) == "0" * 100
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)  # not SIGINT twice: equal signals that are pending become one
    assert process.wait(timeout=PATIENCE) == 1
    assert "procoro map: " in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_waiting_for_who_reads_a_fifo(start: Start, tmp_path: Path, number: int) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    os.mkfifo(tmp_path / "fifo")
    process = start(function("double"), "in.txt", "-o", "fifo")
    wait_until(lambda: catches(process.pid, signal.SIGTERM), "it hears signals")
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "cannot write fifo: nobody reads it" in said


def test_a_fifo_is_read_by_who_comes_late(start: Start, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    os.mkfifo(tmp_path / "fifo")
    process = start(function("double"), "in.txt", "-o", "fifo")
    assert (tmp_path / "fifo").read_text() == '"aa"\n'
    assert process.wait(PATIENCE) == 0


def test_what_is_written_survives_a_kill(start: Start, gate: Gate, queue_at_gate: Path, tmp_path: Path) -> None:
    process = start(function("stands_at_gate"), queue_at_gate, "--errors", "bad.jsonl", "--workers", 2)
    assert process.stdout is not None
    assert process.stdout.readline() == '"first"\n'
    assert process.stdout.readline() == '"second"\n'
    gate.reached()
    process.kill()
    assert process.wait(timeout=PATIENCE) == -signal.SIGKILL
    assert process.stdout.read() == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("given, status", [("1\n", 0), ("no JSON\n", 1)])
def test_standard_error_that_is_full_or_closed_changes_nothing(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbuffered: str, given: str, status: int
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    (tmp_path / "in.jsonl").write_text(given)
    order = function("double"), "in.jsonl", "--errors", "errors.jsonl", "-o"
    with open("/dev/full", "w") as full:
        process = start(*order, "out.jsonl", stderr=full)
        assert process.wait(timeout=PATIENCE) == status
    process = start(*order, "-", preexec_fn=lambda: os.close(2))
    out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (status, "" if status else "2\n"), "it does not stand between the rows"
    assert rows(tmp_path / "out.jsonl") == ([] if status else [2])


def test_error_rows_in_a_file_of_their_own_survive_a_kill(start: Start, gate: Gate, tmp_path: Path) -> None:
    """They, too, are written a tenth of a second after they are known."""
    (tmp_path / "in.jsonl").write_text("no JSON\n" + json.dumps(f"{gate.folder} word") + "\n")
    process = start(function("stands_at_gate"), "in.jsonl", "-o", "out.jsonl", "--errors", "bad.jsonl", "--workers", 1)
    gate.reached()
    bad = tmp_path / "bad.jsonl"
    wait_until(lambda: bad.exists() and len(rows(bad)) == 1, "its error row is there", PATIENCE)
    process.kill()
    assert process.wait(timeout=PATIENCE) == -signal.SIGKILL
    assert rows(bad)[0]["input"] == "no JSON"


def test_the_old_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        assert (interrupts.drain, interrupts.stop) == (True, False)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
