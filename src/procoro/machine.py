"""What this process may use of the machine, within the limits of the cgroups that it is in."""

from __future__ import annotations

import functools
import os
import sys
import time

from procoro import kernel

NO_LIMIT = 1 << 60  # bytes: what cgroups v1 call no limit is above that
LIMITS_LAST = 2.0  # seconds between two looks at the limits of cgroups; what they hold is looked at each time


def cores() -> int:
    """Cores that this process may use: its affinity, within its cgroup's quota."""
    if sys.version_info >= (3, 13):
        count = os.process_cpu_count() or 1  # heeds PYTHON_CPU_COUNT
    else:
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _cgroups("cpu"):
        try:
            with open(f"{folder}/cpu.max", encoding="ascii") as file:
                quota, period = file.read().split()
        except OSError:  # v1
            quota, period = f"{_number(f'{folder}/cpu.cfs_quota_us')}", f"{_number(f'{folder}/cpu.cfs_period_us')}"
        if quota.isdigit() and period.isdigit():  # not "max", -1 or None
            count = min(count, max(1, int(quota) // int(period)))
    return max(1, count)


def memory_left() -> tuple[int, int]:
    """Bytes that can still be had, and bytes in all: the tightest of the machine and the cgroups we are in.

    Where that cannot be learnt, because no descriptor is free, there is plenty.
    """
    total = left = sys.maxsize
    try:
        memory = kernel.read("/proc/meminfo")
        total, left = (
            int(memory.partition(name)[2].split(None, 1)[0]) * 1024 for name in (b"MemTotal:", b"MemAvailable:")
        )
    except (OSError, IndexError):
        pass
    for folder, limit in _memory_limits(int(time.monotonic() // LIMITS_LAST)):
        used = _number(f"{folder}/memory.current") or _number(f"{folder}/memory.usage_in_bytes")
        if used is not None and limit - used < left:
            room = limit - used + _cached(folder)
            if room < left:
                left, total = room, limit
    return left, total


@functools.lru_cache(1)
def _memory_limits(when: int) -> list[tuple[str, int]]:
    """The cgroups with a limit to our memory, and their limits, as they are at some time."""
    limits = [
        (folder, _number(f"{folder}/memory.max") or _number(f"{folder}/memory.limit_in_bytes"))
        for folder in _cgroups("memory")
    ]
    return [(folder, limit) for folder, limit in limits if limit is not None and limit < NO_LIMIT]


def _cached(folder: str) -> int:
    """Bytes of files in memory: they count as used by the cgroup, and are dropped when others need the room."""
    try:
        with open(f"{folder}/memory.stat", encoding="ascii") as file:
            stat = dict(line.split() for line in file)
    except OSError:
        return 0
    # v1 tells the sum over the groups within as "total_..."; v2 tells nothing else.
    return sum(int(stat.get(f"total_{name}", stat.get(name, 0))) for name in ("active_file", "inactive_file"))


def _cgroups(controller: str) -> list[str]:
    """The folders of the cgroups whose limits hold for this process."""
    try:
        return _cgroups_at_first(controller)
    except OSError:  # not Linux; or no descriptor is free
        return []


@functools.cache
def _cgroups_at_first(controller: str) -> list[str]:
    with (
        open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as groups,
        open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts,
    ):
        return cgroup_folders(controller, groups.read(), mounts.read())


def cgroup_folders(controller: str, groups: str, mounts: str) -> list[str]:
    """Read the process's `cgroup` and `mountinfo`: v2, and v1 of this controller; its own group, and all around it."""
    paths: dict[str, str] = {}  # by type of file system
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            paths["cgroup" if controllers else "cgroup2"] = path
    folders = []
    for line in mounts.splitlines():
        mount, _, source = line.partition(" - ")
        root, point = mount.split()[3:5]
        kind, options = source.split()[0], source.split()[-1].split(",")
        if kind not in paths or (kind == "cgroup" and controller not in options):
            continue
        # A container may see only its own part of the tree; the path is told from the top all the same.
        root = root.rstrip("/")
        path = paths[kind]
        folder = (point + path.removeprefix(root)).rstrip("/") if f"{path}/".startswith(f"{root}/") else point
        folders.append(folder)
        while folder != point:
            folder = os.path.dirname(folder)
            folders.append(folder)
    return folders


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for memory since it started."""
    try:
        with open("/proc/vmstat", "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def _number(path: str) -> int | None:
    try:
        return int(kernel.read(path))
    except (OSError, ValueError):
        return None
