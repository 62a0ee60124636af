"""One measurement in one fresh process: `main()` reads argv, prints the figures as a line of JSON."""

import os
import sys

from benchmarks.pool.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from benchmarks.compare.catalogue import Measure, System


def arguments(measure: "Measure", system: "System", seconds: float) -> tuple[str, ...]:
    """What `main` reads. Not the catalogue: it would load too much."""
    function = f"{measure.run.__module__}:{measure.run.__name__}"
    return function, system.make, str(seconds), *(f"{name}={value}" for name, value in measure.options.items())


def main() -> None:
    """Pools that are still open are not waited for: who started this process ends them."""
    function, system, seconds, *options = sys.argv[1:]
    measure, adapter = named(function), named(system)()
    figures = measure(adapter, Task(seconds, **dict(option.split("=") for option in options)))

    # Only now: a loaded module must not help what was timed.
    import json

    print(json.dumps(figures), flush=True)
    os._exit(0)


def named(path: str) -> "Any":
    """`module:name`"""
    module, _, name = path.partition(":")
    __import__(module)
    return getattr(sys.modules[module], name)
