"""Programs of their own: what a user writes into a file and runs."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.programs import Program, programs
from tests.promises.forks import Child, Fork

PATIENCE = 30  # seconds until a program that does not end is a failure

Start = Callable[..., Program]
Script = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program in `tmp_path`, as leader of its own session."""
    with programs(tmp_path) as launch:
        numbers = itertools.count()

        def start(code: str, *arguments: object, flags: tuple[str, ...] = (), **options: Any) -> Program:
            file = tmp_path / f"script_{next(numbers)}.py"
            file.write_text(dedent(code))
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
            command = [sys.executable, *(flags or (file,)), *arguments]
            return launch(command, environment, start_new_session=True, **options)

        yield start


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


@pytest.fixture
def fork() -> Iterator[Fork]:
    """`fork(function, *args)` starts a child; at the end all are killed."""
    children: list[Child] = []

    def start(function: Callable[..., Any], *args: Any) -> Child:
        children.append(Child(function, *args))
        return children[-1]

    yield start
    for child in children:
        child.end()
