"""The pool is there before the function is. Guards, because some systems import this program anew in their workers."""

import sys

from benchmarks.faults.systems import named

if __name__ == "__main__":
    pool = named(sys.argv[1])(2)


def twice(number: int) -> int:
    return 2 * number


if __name__ == "__main__":
    print(pool.outcomes(twice, [1, 2, 3]))
    pool.leave()
