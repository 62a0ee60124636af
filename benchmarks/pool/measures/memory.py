"""Memory of an idle pool: the sum of PSS over this process and all that descend from it.

PSS ("proportional set size", `/proc/PID/smaps_rollup`) counts a page that n processes map as 1/n in each, so
that pages shared after a fork are counted once. Pages shared with strangers (the interpreter's file, the C
library) are counted in part only, so more Python processes on the machine make every system look smaller.
Memory that nobody maps (a closed mapping of a memfd, the kernel's buffers) is not in it.
"""

import os
import time

from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import nap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from benchmarks.pool.systems.protocol import System
    from benchmarks.pool.task import Task

SETTLED_AFTER = 0.3  # seconds


def idle(system: "System", task: "Task") -> "dict[str, float]":
    pool = system.open(WORKERS)
    pool.submit_all(nap, [0.05] * WORKERS)  # longer than a start: every worker is up and has run something
    time.sleep(SETTLED_AFTER)
    sizes = {pid: pss_mib(pid) for pid in family(os.getpid())}
    pool.close()
    return {"pss_mib": sum(sizes.values()), "parent_mib": sizes[os.getpid()], "processes": len(sizes)}


def family(head: int) -> list[int]:
    """`head` and all its descendants."""
    parents = {pid: parent_of(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc")))}
    found = [head]
    for ancestor in found:  # grows while it is walked
        found += [pid for pid, parent in parents.items() if parent == ancestor]
    return found


def parent_of(pid: int) -> int:
    """0 where the process has gone meanwhile."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def pss_mib(pid: int) -> float:
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        kib = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return kib / 1024
