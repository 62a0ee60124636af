"""The command as its users run it: a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.programs import Program, programs

FUNCTIONS = Path(__file__).with_name("sample_functions.py")
PATIENCE = 40  # seconds until a command that does not end is a failure

Start = Callable[..., Program]


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
    """Start `procoro map ARGUMENTS...` in `tmp_path`."""
    with programs(tmp_path) as launch:

        def start(*arguments: object, **options: Any) -> Program:
            return launch([sys.executable, "-m", "procoro", "map", *arguments], dict(os.environ), **options)

        yield start


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
