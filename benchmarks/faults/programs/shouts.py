"""A worker prints 1 MiB."""

import sys

from benchmarks.faults import calls
from benchmarks.faults.systems import named

if __name__ == "__main__":
    pool = named(sys.argv[1])(2)
    pool.call(calls.shout, 1024)
    pool.leave()
