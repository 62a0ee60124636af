"""By hand: 200 random kills of those who use each kind of lock and queue, blocking and awaited, ten times over.

python -m tests.promises.soak_ipc_kills [--rounds 10] [--kills 200] [--seed 1] [--only Lock]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from procoro import BoundedSemaphore, Lock, RLock, Semaphore
from tests.promises.ipc_kills import QUEUES, soak_lock, soak_queue, soak_semaphore

Soak = Callable[[], dict[str, int]]


def soaks(folder: Path, kills: int, seed: int) -> Iterator[tuple[str, Soak]]:
    for awaited in (False, True):
        how = "awaited" if awaited else "blocking"
        for kind in (Lock, RLock, Semaphore, BoundedSemaphore):
            name = f"{kind.__name__} {how}"
            yield name, lambda kind=kind, awaited=awaited: soak_lock(kind, kills, seed, awaited=awaited)  # type: ignore[misc]
        yield (
            f"Lock's holders {how}",
            lambda awaited=awaited: soak_lock(Lock, kills, seed, awaited=awaited, holders=True),  # type: ignore[misc]
        )
        for name, make in QUEUES.items():
            yield (
                f"{name} {how}",
                lambda make=make, awaited=awaited: soak_queue(folder, make, kills, seed, awaited=awaited),  # type: ignore[misc]
            )
    yield "Semaphore(2) blocking", lambda: soak_semaphore(Semaphore, 2, kills, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("rounds", 10), ("kills", 200), ("seed", 1)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", default="", help="those whose name begins so")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seed, given.seed + given.rounds):
            for name, soak in soaks(Path(folder), given.kills, seed):
                if not name.startswith(given.only):
                    continue
                began = time.monotonic()
                words = ", ".join(f"{value:,} {key}" for key, value in soak().items())
                print(f"seed {seed}, {name}: {words} in {time.monotonic() - began:.1f} s: all right", flush=True)


if __name__ == "__main__":
    main()
