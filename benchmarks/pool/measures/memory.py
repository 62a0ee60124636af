"""Memory of an idle pool: PSS of this process and all that descend from it (see `compare.processes`)."""

import os
import time

from benchmarks.compare.processes import family, pss_mib
from benchmarks.pool.task import WORKERS
from benchmarks.pool.workload import nap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from benchmarks.pool.systems import Adapter
    from benchmarks.pool.task import Task

SETTLED_AFTER = 0.3  # seconds


def idle(system: "Adapter", task: "Task") -> "dict[str, float]":
    system.open(WORKERS)
    system.map(nap, [0.05] * WORKERS)  # longer than a start: every worker is up and has run something
    time.sleep(SETTLED_AFTER)
    sizes = {pid: pss_mib(pid) for pid in family(os.getpid())}
    return {"pss_mib": sum(sizes.values()), "parent_mib": sizes[os.getpid()], "processes": len(sizes)}
