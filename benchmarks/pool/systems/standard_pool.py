"""multiprocessing.Pool, with the platform's default start method."""

from benchmarks.pool.systems import Adapter

TYPE_CHECKING = False
if TYPE_CHECKING:
    import multiprocessing.pool
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from benchmarks.pool.systems import Function


class StandardPool(Adapter):
    imports = "import multiprocessing"
    names_pool = "from multiprocessing.pool import Pool"
    chunksize = 1
    pool: "multiprocessing.pool.Pool"

    def open(self, workers: int) -> None:
        import multiprocessing

        self.pool = multiprocessing.Pool(workers)

    def imap(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return self.pool.imap(function, items, self.chunksize)

    def imap_unordered(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return self.pool.imap_unordered(function, items, self.chunksize)

    def map(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        return self.pool.map(function, items)

    def submit_all(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        pending = [self.pool.apply_async(function, (item,)) for item in items]
        return [result.get() for result in pending]

    def call(self, function: "Function", item: "Any") -> "Any":
        return self.pool.apply_async(function, (item,)).get()

    def close(self) -> None:
        self.pool.close()
        self.pool.join()

    def leave(self) -> None:
        self.pool.__exit__(None, None, None)


class Chunked(StandardPool):
    """Fast, but a result waits for 255 others, and a death loses them."""

    chunksize = 256
