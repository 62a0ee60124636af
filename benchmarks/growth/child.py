"""One point in one fresh process: `main()` reads argv, prints figures, each with its `x`, as a line of JSON."""

import json
import os
import sys

from benchmarks.pool.child import named


def main() -> None:
    """Pools that are still open are not waited for: who started this process ends them."""
    study, system, x, seconds = sys.argv[1:]
    print(json.dumps(named(study)(named(system)(), float(x), float(seconds))), flush=True)
    os._exit(0)
