"""What a worker has done, in memory that its server can read at any time."""

from __future__ import annotations

import mmap
import os
import weakref
from typing import Any

from procoro import kernel
from procoro.wire import handles

NAMES = ("accepted", "open", "received", "sent", "errors", "lag")
ACCEPTED, OPEN, RECEIVED, SENT, ERRORS, LAG = range(len(NAMES))
BEGUN = len(NAMES)  # 1: it may accept
MICROSECONDS = 1_000_000  # lag is kept in these
SIZE = mmap.PAGESIZE


class Counters:
    """One worker's. `cells` is written by it alone."""

    def __init__(self, fd: int = -1) -> None:
        self._fd = kernel.shared_file("procoro-counters", SIZE) if fd < 0 else os.dup(fd)
        try:
            self._memory = mmap.mmap(self._fd, SIZE)
        except BaseException:
            os.close(self._fd)
            raise
        self.cells = memoryview(self._memory).cast("Q")
        self.key = int.from_bytes(os.urandom(8), "little")
        self.awaited_by: weakref.WeakSet[Any] = weakref.WeakSet()

    def lend(self) -> list[int]:
        """As in `handles.Handle`."""
        return [os.dup(self._fd)]

    def __reduce__(self) -> Any:
        return _arrive, (handles.collect(self),)

    def read(self) -> dict[str, float]:
        """By name: bytes, numbers, and seconds of lag."""
        found: dict[str, float] = dict(zip(NAMES, self.cells[: len(NAMES)].tolist(), strict=True))
        found["lag"] /= MICROSECONDS
        return found

    def close(self) -> None:
        """Give the memory back."""
        self.cells.release()
        self._memory.close()
        os.close(self._fd)


def _arrive(key: int) -> Counters:
    (fd,) = handles.take(key)
    return Counters(fd)
