"""procoro.Pool, local workers, serial model."""

from benchmarks.pool.systems import Adapter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from benchmarks.pool.systems import Function
    from procoro import Pool


class Procoro(Adapter):
    imports = "import procoro"
    names_pool = "from procoro import Pool"
    pool: "Pool"

    def open(self, workers: int) -> None:
        import procoro

        self.pool = procoro.Pool(workers)

    def imap(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return iter(self.pool.imap(function, items))

    def imap_unordered(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return iter(self.pool.imap_unordered(function, items))

    def map(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        return self.pool.map(function, items)

    def submit_all(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        pending = [self.pool.submit(function, item) for item in items]
        return [result.get() for result in pending]

    def call(self, function: "Function", item: "Any") -> "Any":
        return self.pool.submit(function, item).get()

    def close(self) -> None:
        self.pool.close()
        self.pool.join()

    def leave(self) -> None:
        self.pool.__exit__(None, None, None)
