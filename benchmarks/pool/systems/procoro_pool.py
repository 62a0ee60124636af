"""procoro.Pool, local workers, serial model."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from benchmarks.pool.systems.protocol import OpenPool


class Procoro:
    name = "procoro"
    imports = "import procoro"
    pool = "procoro.Pool"
    fixed_chunks = False

    def load(self) -> None:
        import procoro  # noqa: F401 - `start` times what comes after it, the lazy `procoro.Pool` included

    def open(self, workers: int) -> "OpenPool":
        import procoro

        return OpenProcoro(procoro.Pool(workers))


class OpenProcoro:
    def __init__(self, pool: "Any") -> None:
        self._pool = pool

    def imap(self, function: "Callable[..., Any]", items: "Sequence[Any]") -> "Iterator[Any]":
        stream: Iterator[Any] = self._pool.imap(function, items)
        return stream

    def imap_unordered(self, function: "Callable[..., Any]", items: "Sequence[Any]") -> "Iterator[Any]":
        stream: Iterator[Any] = self._pool.imap_unordered(function, items)
        return stream

    def map(self, function: "Callable[..., Any]", items: "Sequence[Any]") -> "list[Any]":
        results: list[Any] = self._pool.map(function, items)
        return results

    def submit_all(self, function: "Callable[..., Any]", items: "Sequence[Any]") -> "list[Any]":
        pending = [self._pool.submit(function, item) for item in items]
        return [result.get() for result in pending]

    def call(self, function: "Callable[..., Any]", item: "Any") -> "Any":
        return self._pool.submit(function, item).get()

    def close(self) -> None:
        self._pool.close()
        self._pool.join()

    def leave(self) -> None:
        self._pool.__exit__(None, None, None)
