"""No pool: as many forked processes as workers, each of which runs its share of the calls and says nothing."""

import os

from benchmarks.pool.systems import Adapter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from benchmarks.pool.systems import Function


class BareProcesses(Adapter):
    def open(self, workers: int) -> None:
        self.workers = workers

    def map(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        """The items are dealt round by size, so that all have the same to do; values are not sent back."""
        by_size = sorted(items)
        pids = []
        for number in range(self.workers):
            pid = os.fork()
            if pid == 0:
                for item in by_size[number :: self.workers]:
                    function(item)
                os._exit(0)
            pids.append(pid)
        if any(os.waitpid(pid, 0)[1] for pid in pids):
            raise ChildProcessError("a process has failed")
        return list(items)

    def imap(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return iter(self.map(function, list(items)))
