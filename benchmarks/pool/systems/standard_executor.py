"""concurrent.futures.ProcessPoolExecutor, with the platform's default start method."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from benchmarks.pool.systems.protocol import OpenPool


class StandardExecutor:
    name = "PPE"
    imports = "import concurrent.futures"
    pool = "concurrent.futures.ProcessPoolExecutor"
    fixed_chunks = False

    def load(self) -> None:
        import concurrent.futures  # noqa: F401 - `start` times what comes after it

    def open(self, workers: int) -> "OpenPool":
        import concurrent.futures

        return OpenStandardExecutor(concurrent.futures.ProcessPoolExecutor(workers))


class OpenStandardExecutor:
    def __init__(self, executor: "concurrent.futures.ProcessPoolExecutor") -> None:
        self._executor = executor

    def imap(self, function: "Callable[..., Any]", items: "Sequence[Any]") -> "Iterator[Any]":
        return self._executor.map(function, items)

    def imap_unordered(self, function: "Callable[..., Any]", items: "Sequence[Any]") -> "Iterator[Any]":
        from concurrent.futures import as_completed

        futures = [self._executor.submit(function, item) for item in items]
        return (future.result() for future in as_completed(futures))

    def map(self, function: "Callable[..., Any]", items: "Sequence[Any]") -> "list[Any]":
        return list(self._executor.map(function, items))

    def submit_all(self, function: "Callable[..., Any]", items: "Sequence[Any]") -> "list[Any]":
        futures = [self._executor.submit(function, item) for item in items]
        return [future.result() for future in futures]

    def call(self, function: "Callable[..., Any]", item: "Any") -> "Any":
        return self._executor.submit(function, item).result()

    def close(self) -> None:
        self._executor.shutdown(wait=True)

    def leave(self) -> None:
        self._executor.__exit__(None, None, None)
