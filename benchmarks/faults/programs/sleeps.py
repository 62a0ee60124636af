"""Four calls that sleep 30 s. The folder gets a file from each that has begun."""

import functools
import sys

from benchmarks.faults import calls
from benchmarks.faults.systems import named

if __name__ == "__main__":
    pool = named(sys.argv[1])(2)
    try:
        pool.outcomes(functools.partial(calls.nap_noted, folder=sys.argv[2]), [30.0] * 4)
    finally:
        pool.leave()
