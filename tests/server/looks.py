"""Looking at a server and its workers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import psutil
import pytest

from procoro.server.server import Server
from tests.promises.looks import wait_until

MIB = 1 << 20


def sums(server: Server) -> dict[str, float]:
    """The counters of all workers."""
    return {
        name: sum(one[name] for one in server.stats()) for name in ("accepted", "open", "received", "sent", "errors")
    }


def wait_for_open(server: Server, count: int) -> None:
    """Wait until so many connections are open."""
    wait_until(lambda: sums(server)["open"] == count, f"{count} connections are open", 20)


def own_memory(pid: int) -> int:
    """Bytes that a process alone holds."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Private_"))


def cpu_seconds(pid: int) -> float:
    """What it has used."""
    return float(sum(psutil.Process(pid).cpu_times()[:2]))


def records(caplog: pytest.LogCaptureFixture, name: str = "procoro.server") -> list[logging.LogRecord]:
    """What a logger has said."""
    return [record for record in caplog.records if record.name == name]


def worker_pids(of: int | None = None) -> set[int]:
    """Of all workers of a process."""
    found = set()
    for child in psutil.Process(of).children():
        try:
            if "procoro.worker.template" in " ".join(child.cmdline()):
                found |= {worker.pid for worker in child.children() if worker.status() != psutil.STATUS_ZOMBIE}
        except psutil.Error:
            continue
    return found


def template_pids(of: int | None = None) -> set[int]:
    """Of its templates."""
    found = set()
    for child in psutil.Process(of).children():
        try:
            if "procoro.worker.template" in " ".join(child.cmdline()):
                found.add(child.pid)
        except psutil.Error:
            continue
    return found


def server_of(kind: str, name: str, **settings: Any) -> Server:
    """A server that takes any free port."""
    from tests.server.handlers import handler

    return Server(handler(kind, name), **({"port": 0, "processes": 1} | settings))
