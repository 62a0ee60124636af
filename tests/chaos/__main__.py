"""By hand: many seeds of thousands of calls with everything at once.

python -m tests.chaos [--seeds 100] [--calls 3000] [--first 1] [--at-once 1] [--stop]

A seed repeats what was asked for, not how fast the machine was.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.chaos import program, seeds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--calls", type=int, default=3000, help="calls in each")
    parser.add_argument("--at-once", type=int, default=1, help="seeds that run side by side")
    parser.add_argument("--stop", action="store_true", help="stop at the first that is red")
    parser.add_argument(
        "--limit", type=float, default=seeds.LIMIT, help="seconds in which nothing happens: then it hangs"
    )
    parser.add_argument("--one", type=int, help="this seed, in this very process, which must be a fresh one")
    asked = parser.parse_args()
    if asked.one is not None:
        return program.live(asked.one, asked.calls, asked.limit)
    red: list[int] = []

    def live(seed: int) -> None:
        if asked.stop and red:
            return
        right, said = seeds.live(seed, asked.calls, asked.limit)
        if not right:
            red.append(seed)
        print(said, flush=True)

    with ThreadPoolExecutor(asked.at_once) as threads:
        list(threads.map(live, range(asked.first, asked.first + asked.seeds)))
    print(f"{asked.seeds - len(red)} green, {len(red)} red{': ' if red else ''}{', '.join(map(str, sorted(red)))}")
    return bool(red)


if __name__ == "__main__":
    sys.exit(main())
