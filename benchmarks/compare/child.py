"""One measurement in one fresh process: `measure()` reads argv, prints the figures as a line of JSON."""

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.compare.catalogue import Measure


def measure(measures: Iterable[Measure], task: Callable[..., Any]) -> None:
    """`task(seconds, **options)` makes what the measure is given."""
    name, system, seconds = sys.argv[1:]
    (chosen,) = (one for one in measures if one.name == name)
    (who,) = (one for one in chosen.systems if one.name == system)
    print(json.dumps(chosen.run(who.make, task(float(seconds), **chosen.options))))
