"""A consumer that is slower than the workers: what waits for it stays bounded, and so does the memory of all.

Shared by a short test and by `soak_slow_consumer.py`.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from procoro import Pool
from procoro.kernel import resident
from procoro.wire.blocks import BIG
from tests.promises import looks

ITEMS = 4096  # what the promise allows to be ahead of the consumer
BYTES = 16 << 20


class Inputs:
    """An endless generator of `size` bytes each, the number in front; it counts what is pulled."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pulled = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.pulled += 1
            yield (self.pulled - 1).to_bytes(8, "little").ljust(self.size, b".")


def bounce(data: bytes) -> bytes:
    return data


class Watch:
    """The largest of what was ever seen."""

    def __init__(self) -> None:
        self.ahead = self.blocks = self.memory = 0
        self.at_first = held()

    def look(self, ahead: int) -> None:
        self.ahead = max(self.ahead, ahead)
        self.blocks = max(self.blocks, blocks())
        self.memory = max(self.memory, held() - self.at_first)


def held() -> int:
    """Bytes that this process and its workers hold."""
    return resident(os.getpid()) + sum(map(resident, looks.workers()))


def blocks() -> int:
    """Large values for which this process holds a descriptor, or that it looks into."""
    found = Path("/proc/self/maps").read_text().count("memfd:procoro-block")
    for number in os.listdir("/proc/self/fd"):
        try:
            found += "procoro-block" in os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


def consume(size: int, ordered: bool, most: int, every: int, seconds: float = 60.0) -> tuple[int, Watch]:
    """Take so many items, or for so long, with a pause after every `every`; how many, and what was seen meanwhile."""
    inputs = Inputs(size)
    with Pool(2) as pool:
        stream = (pool.imap if ordered else pool.imap_unordered)(bounce, iter(inputs))
        for _ in range(10):
            next(stream)
        taken, watch, deadline = 10, Watch(), time.monotonic() + seconds
        while taken < most and time.monotonic() < deadline:
            value = next(stream)
            assert len(value) == size
            assert not ordered or int.from_bytes(value[:8], "little") == taken
            del value
            taken += 1
            if taken % every == 0:
                time.sleep(0.002)  # the others go on as far as they may
                watch.look(inputs.pulled - taken)
    return taken, watch


def check(size: int, watch: Watch) -> None:
    """Nothing grows with what has passed through."""
    assert watch.ahead <= ITEMS
    # Inputs and results are bounded each by itself, one item may come on top, and each is held packed and unpacked.
    assert watch.ahead * size <= 2 * BYTES + 8 * size, f"{watch.ahead} items of {size} bytes are ahead"
    assert watch.blocks <= 4 + 2 * (BYTES // size if size > BIG else 0)
    assert watch.memory <= 3 * BYTES, f"{watch.memory >> 20} MiB more than at first"
