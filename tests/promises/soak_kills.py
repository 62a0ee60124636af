"""By hand: 200 random kills with a million tiny calls or more, ten times over.

python -m tests.promises.soak_kills [--rounds 10] [--kills 200] [--calls 1000000] [--workers 4] [--seed 1]
                                    [--model asyncio|greenlets|threads] [--concurrency 100]
"""

import argparse
import tempfile
import time
from pathlib import Path

from tests.promises.kills import soak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("rounds", 10), ("kills", 200), ("calls", 1_000_000), ("workers", 4), ("seed", 1)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--model", default="serial")
    parser.add_argument("--concurrency", type=int)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seed, given.seed + given.rounds):
            began = time.monotonic()
            ordered, chunk = seed % 3 != 0, (None, 1024, None, 10)[seed % 4]
            figures = soak(
                Path(folder),
                given.calls,
                given.kills,
                seed,
                workers=given.workers,
                ordered=ordered,
                chunk=chunk,
                model=given.model,
                concurrency=given.concurrency,
            )
            words = ", ".join(f"{value:,} {name}" for name, value in figures.items())
            how = f"{'ordered' if ordered else 'unordered'}, chunk {chunk}"
            print(f"seed {seed} ({how}): {words} in {time.monotonic() - began:.1f} s: all right", flush=True)


if __name__ == "__main__":
    main()
