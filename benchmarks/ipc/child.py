"""One measurement in one fresh process."""

from benchmarks.compare.child import measure
from benchmarks.ipc.catalogue import MEASURES
from benchmarks.ipc.measures import Task


def main() -> None:
    measure(MEASURES, Task)
