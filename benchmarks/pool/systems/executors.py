"""Executors of concurrent.futures: the standard one, with the platform's default start method, and loky's."""

from benchmarks.pool.systems import Adapter

TYPE_CHECKING = False
if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from benchmarks.pool.systems import Function


class StandardExecutor(Adapter):
    imports = "import concurrent.futures"
    names_pool = "from concurrent.futures import ProcessPoolExecutor"
    executor: "concurrent.futures.Executor"

    def open(self, workers: int) -> None:
        import concurrent.futures

        self.executor = concurrent.futures.ProcessPoolExecutor(workers)

    def imap(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return self.executor.map(function, items)

    def imap_unordered(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        from concurrent.futures import as_completed

        futures = [self.executor.submit(function, item) for item in items]
        return (future.result() for future in as_completed(futures))

    def map(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        return list(self.executor.map(function, items))

    def submit_all(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        futures = [self.executor.submit(function, item) for item in items]
        return [future.result() for future in futures]

    def call(self, function: "Function", item: "Any") -> "Any":
        return self.executor.submit(function, item).result()

    def close(self) -> None:
        self.executor.shutdown(wait=True)

    def leave(self) -> None:
        self.executor.__exit__(None, None, None)


class Loky(StandardExecutor):
    imports = "import loky"
    names_pool = ""

    def open(self, workers: int) -> None:
        import loky

        self.executor = loky.ProcessPoolExecutor(workers)
