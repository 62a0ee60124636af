"""Programs that tests start: whoever still runs at the end of a test is killed."""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

Program = subprocess.Popen[str]
Launch = Callable[..., Program]


@contextmanager
def programs(folder: Path) -> Iterator[Launch]:
    """`launch(command, environment, **options)` starts a program in `folder` which can import what tests can."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    running: list[Program] = []

    def launch(command: Sequence[object], environment: dict[str, str], **options: Any) -> Program:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [*map(str, command)],
            cwd=folder,
            env={**environment, "PYTHONPATH": path},
            text=True,
            encoding="utf-8",
            **{**pipes, **options},
        )
        running.append(process)
        return process

    yield launch
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
            stream.close()
