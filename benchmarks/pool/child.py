"""One measurement in one fresh process: `main()` reads argv, prints the figures as a line of JSON."""

import sys

from benchmarks.pool import systems
from benchmarks.pool.task import Task


def main() -> None:
    module, function, system, inputs, seconds, most = sys.argv[1:]
    __import__(module)
    measure = getattr(sys.modules[module], function)
    chosen = systems.named(system)
    chosen.load()
    figures = measure(chosen, Task(inputs, float(seconds), int(most)))

    # Only now: a loaded module must not help what was timed.
    import json

    print(json.dumps(figures))
