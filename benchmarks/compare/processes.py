"""What processes take: memory and CPU. Measured processes import this, so it imports little itself.

PSS ("proportional set size", `/proc/PID/smaps_rollup`) counts a page that n processes map as 1/n in each, so
that pages shared after a fork are counted once. Pages shared with strangers (the interpreter's file, the C
library) are counted in part only, so more Python processes on the machine make every system look smaller.
Memory that nobody maps (a closed mapping of a memfd, the kernel's buffers) is not in it.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


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
    """0 where the process has gone meanwhile."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            kib = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return kib / 1024


def family_mib() -> float:
    """PSS of this process and all that descend from it."""
    return sum(map(pss_mib, family(os.getpid())))


def cpu_seconds(pids: "Iterable[int]") -> float:
    """Of all their threads, in hundredths."""
    found = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        found += int(fields[11]) + int(fields[12])
    return found / os.sysconf("SC_CLK_TCK")
