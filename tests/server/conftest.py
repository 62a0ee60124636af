"""Both kinds of handler; servers as programs; certificates."""

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.programs import Program, programs
from tests.server.handlers import KINDS

# libuv opens a pipe for signals with its first loop, and keeps it.
uvloop.new_event_loop().close()

Serving = Callable[..., tuple[Program, Any]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Of the handler."""
    return str(request.param)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    """Start a server as a program: the program, and its first address."""
    with programs(tmp_path) as launch:

        def start(kind: str, name: str, options: dict[str, Any] | None = None, **settings: Any) -> tuple[Program, Any]:
            command = [sys.executable, "-m", "tests.server.program", kind, name, json.dumps(settings)]
            program = launch(command, dict(os.environ), **(options or {}))
            assert program.stdout is not None
            words = program.stdout.readline()
            assert words, program.communicate()
            return program, json.loads(words)[0]

        yield start


@pytest.fixture
def many_files() -> Iterator[int]:
    """As many descriptors as may be; how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
