"""pebble.ProcessPool."""

from benchmarks.pool.systems import Adapter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from benchmarks.pool.systems import Function


class Pebble(Adapter):
    imports = "import pebble"

    def open(self, workers: int) -> None:
        import pebble

        self.pool = pebble.ProcessPool(workers)

    def imap(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return iter(self.pool.map(function, items).result())

    def imap_unordered(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        from concurrent.futures import as_completed

        futures = [self.pool.schedule(function, (item,)) for item in items]
        return (future.result() for future in as_completed(futures))

    def map(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        return list(self.pool.map(function, items).result())

    def submit_all(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        futures = [self.pool.schedule(function, (item,)) for item in items]
        return [future.result() for future in futures]

    def call(self, function: "Function", item: "Any") -> "Any":
        return self.pool.schedule(function, (item,)).result()

    def close(self) -> None:
        self.pool.close()
        self.pool.join()

    def leave(self) -> None:
        self.pool.__exit__(None, None, None)
