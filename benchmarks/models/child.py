"""One measurement in one fresh process."""

from benchmarks.compare.child import measure
from benchmarks.models.catalogue import MEASURES
from benchmarks.models.measures import Task


def main() -> None:
    measure(MEASURES, Task)
