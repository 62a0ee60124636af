"""The machine that the figures were measured on. A figure without it means little."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

Facts = dict[str, str]


def facts() -> Facts:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cores": _cores(),
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "memory": _field("/proc/meminfo", "MemTotal") or "unknown",
        "python": f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": load(),
    }


def load() -> str:
    """The load averages of the last 1, 5 and 15 minutes: who else was using the cores."""
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def _cores() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{usable} usable of {os.cpu_count()}{_quota()}"


def _quota() -> str:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return ""
    return "" if limit == "max" else f", cgroup quota {int(limit) / int(period):.2g}"


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    return described.stdout.strip() or "unknown"
