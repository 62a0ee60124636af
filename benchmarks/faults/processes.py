"""Processes by the mark in their environment, which they keep when their parent dies."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil


def marked(mark: str) -> list[int]:
    """The pids of all that live and have `NAME=value` in their environment; the dead have none."""
    wanted = mark.encode()
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with suppress(OSError):  # it has gone meanwhile, or is not ours to look at
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def end_all(head: int, mark: str) -> None:
    """Kill `head`, its descendants and all that bear the mark, until there is none."""
    deadline = time.monotonic() + 10
    victims = descendants(head)  # before `head` dies and they are nobody's
    with suppress(ProcessLookupError):
        os.kill(head, signal.SIGKILL)
    while victims := {*victims, *marked(mark)}:
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes that cannot be killed: {sorted(victims)}")
        time.sleep(0.01)
        victims = set()


def descendants(head: int) -> set[int]:
    try:
        return {child.pid for child in psutil.Process(head).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()
