"""Two workers run a call each; their pids are printed; then nothing happens any more."""

import signal
import sys

from benchmarks.faults import calls
from benchmarks.faults.systems import named

if __name__ == "__main__":
    pool = named(sys.argv[1])(2)
    print(*set(pool.outcomes(calls.nap, [0.5] * 2)), flush=True)
    signal.pause()
