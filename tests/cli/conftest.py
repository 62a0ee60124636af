"""The command as its users run it: a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FUNCTIONS = Path(__file__).with_name("sample_functions.py")
PATIENCE = 40  # seconds until a command that does not end is a failure

Start = Callable[..., "subprocess.Popen[str]"]


def function(name: str) -> str:
    """FUNCTION of the command line for one of the sample functions."""
    return f"{FUNCTIONS}:{name}"


def rows(path: Path) -> list[Any]:
    """The rows in a file, each of which must be one whole line of JSON."""
    text = path.read_text(encoding="utf-8")
    assert not text or text.endswith("\n"), f"torn: {text[-100:]!r}"
    return [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `procoro map ARGUMENTS...` in `tmp_path`; whoever still runs at the end of the test is killed."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-m", "procoro.cli", "map", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            encoding="utf-8",
            **{**pipes, **options},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
            stream.close()


@pytest.fixture
def procoro_map(start: Start) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run `procoro map ARGUMENTS...` to its end; `given` is its standard input."""

    def run(*arguments: object, given: str | None = None) -> "subprocess.CompletedProcess[str]":
        options = {} if given is None else {"stdin": subprocess.PIPE}
        process = start(*arguments, **options)
        out, said = process.communicate(given, timeout=PATIENCE)
        assert "Traceback" not in said or "importing" in said, said
        return subprocess.CompletedProcess(process.args, process.returncode, out, said)

    return run
