"""One measurement in one fresh process."""

from benchmarks.compare.child import measure
from benchmarks.server.catalogue import MEASURES
from benchmarks.server.measures import Task


def main() -> None:
    measure(MEASURES, Task)
