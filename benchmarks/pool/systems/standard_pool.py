"""multiprocessing.Pool, with the platform's default start method."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import multiprocessing.pool
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from benchmarks.pool.systems.protocol import OpenPool


class StandardPool:
    imports = "import multiprocessing"
    pool = "multiprocessing.Pool"

    def __init__(self, chunksize: int = 1) -> None:
        self.chunksize = chunksize
        self.fixed_chunks = chunksize > 1
        self.name = f"mp.Pool chunk {chunksize}" if self.fixed_chunks else "mp.Pool"

    def load(self) -> None:
        import multiprocessing  # noqa: F401 - `start` times what comes after it

    def open(self, workers: int) -> "OpenPool":
        import multiprocessing

        return OpenStandardPool(multiprocessing.Pool(workers), self.chunksize)


class OpenStandardPool:
    def __init__(self, pool: "multiprocessing.pool.Pool", chunksize: int) -> None:
        self._pool = pool
        self._chunksize = chunksize

    def imap(self, function: "Callable[..., Any]", items: "Sequence[Any]") -> "Iterator[Any]":
        return self._pool.imap(function, items, self._chunksize)

    def imap_unordered(self, function: "Callable[..., Any]", items: "Sequence[Any]") -> "Iterator[Any]":
        return self._pool.imap_unordered(function, items, self._chunksize)

    def map(self, function: "Callable[..., Any]", items: "Sequence[Any]") -> "list[Any]":
        return self._pool.map(function, items)

    def submit_all(self, function: "Callable[..., Any]", items: "Sequence[Any]") -> "list[Any]":
        pending = [self._pool.apply_async(function, (item,)) for item in items]
        return [result.get() for result in pending]

    def call(self, function: "Callable[..., Any]", item: "Any") -> "Any":
        return self._pool.apply_async(function, (item,)).get()

    def close(self) -> None:
        self._pool.close()
        self._pool.join()

    def leave(self) -> None:
        self._pool.__exit__(None, None, None)
