"""One measurement in one fresh process: `main()` reads argv, prints the figures as a line of JSON."""

import json
import sys

from benchmarks.ipc.catalogue import MEASURES
from benchmarks.ipc.measures import Task


def main() -> None:
    name, system, seconds = sys.argv[1:]
    (measure,) = (one for one in MEASURES if one.name == name)
    (chosen,) = (one for one in measure.systems if one.name == system)
    print(json.dumps(measure.run(chosen.make, Task(float(seconds), **measure.options))))
