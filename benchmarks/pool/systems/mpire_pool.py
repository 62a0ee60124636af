"""mpire.WorkerPool, its workers kept alive. It chooses the size of its chunks itself, by the length that it is told."""

from benchmarks.pool.systems import Adapter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from benchmarks.pool.systems import Function


class Mpire(Adapter):
    imports = "import mpire"
    chunk_size: "int | None" = None

    def open(self, workers: int) -> None:
        import mpire

        self.pool = mpire.WorkerPool(workers, keep_alive=True)

    def imap(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return iter(self.pool.imap(function, _alone(items), iterable_len=length, chunk_size=self.chunk_size))

    def imap_unordered(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return iter(self.pool.imap_unordered(function, _alone(items), iterable_len=length, chunk_size=self.chunk_size))

    def map(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        return list(self.pool.map(function, _alone(items), iterable_len=len(items), chunk_size=self.chunk_size))

    def submit_all(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        pending = [self.pool.apply_async(function, (item,)) for item in items]
        return [result.get() for result in pending]

    def call(self, function: "Function", item: "Any") -> "Any":
        return self.pool.apply(function, (item,))

    def close(self) -> None:
        self.pool.stop_and_join()

    def leave(self) -> None:
        self.pool.__exit__(None, None, None)


class Unchunked(Mpire):
    """Slow, but lazy, and no call waits for another."""

    chunk_size = 1


def _alone(items: "Iterable[Any]") -> "Iterable[Any]":
    """A dict would become keywords."""
    if isinstance(items, list) and items and isinstance(items[0], dict):
        return ((item,) for item in items)
    return items
