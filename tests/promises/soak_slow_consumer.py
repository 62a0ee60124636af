"""By hand: a consumer that is slower than the workers, for a minute each: small and large items, ordered and not.

python -m tests.promises.soak_slow_consumer [--seconds 60]
"""

import argparse

from tests.promises.slow_consumers import check, consume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    for size, every in [(1000, 100), (1 << 20, 1)]:
        for ordered in (True, False):
            taken, watch = consume(size, ordered, 1 << 60, every, seconds)
            print(
                f"{size:,} bytes, {'ordered' if ordered else 'unordered'}: {taken:,} items in {seconds:.0f} s; at most "
                f"{watch.ahead:,} ahead, {watch.blocks} blocks held, {watch.memory / 2**20:.1f} MiB more than at first",
                flush=True,
            )
            check(size, watch)


if __name__ == "__main__":
    main()
