"""No pool: one copy of each array, by one thread, into memory that is there already. What the machine does at most."""

from benchmarks.pool.systems import Adapter
from benchmarks.pool.workload import array_of, head_and_tail, noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from benchmarks.pool.systems import Function


class Memcpy(Adapter):
    imports = "import numpy"

    def open(self, workers: int) -> None:
        self.made = [array_of(0)]
        self.target = array_of(0)

    def imap_unordered(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        """Of results, what is timed is the copy of one that was made before."""
        if len(self.made) < length:
            self.made = [array_of(number) for number in range(length)]
        for item in items:
            self.target[:] = self.made[item] if function is array_of else item
            if function is head_and_tail:
                yield head_and_tail(self.target)
                continue
            if function is noop:  # there and back
                self.target[:] = item
            yield self.target
