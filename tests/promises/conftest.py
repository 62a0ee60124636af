"""Programs of their own: what a user writes into a file and runs."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 30  # seconds until a program that does not end is a failure

Start = Callable[..., "subprocess.Popen[str]"]
Script = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program in `tmp_path`, as leader of its own session; whoever still runs at the end is killed."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    running: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object, flags: tuple[str, ...] = (), **options: Any) -> "subprocess.Popen[str]":
        file = tmp_path / f"script_{len(running)}.py"
        file.write_text(dedent(code))
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        process = subprocess.Popen(
            [sys.executable, *(flags or (str(file),)), *map(str, arguments)],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": path},
            text=True,
            start_new_session=True,
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
def script(start: Start) -> Script:
    """Run a program to its end, which must be a good one; what it printed."""

    def run(code: str, *arguments: object, **options: Any) -> str:
        process = start(code, *arguments, **options)
        try:
            out, said = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail("\n".join(["it does not end; what it said:", *process.communicate()]))
        assert (process.returncode, said) == (0, ""), said
        return out

    return run
