"""Dask's distributed: a local cluster of processes with one thread each."""

from benchmarks.pool.systems import Adapter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from benchmarks.pool.systems import Function


class Dask(Adapter):
    imports = "import distributed"

    def open(self, workers: int) -> None:
        import logging

        import distributed

        self.distributed = distributed
        self.cluster = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
        )
        self.client = distributed.Client(self.cluster)

    def imap(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return (future.result() for future in self.client.map(function, list(items), pure=False))

    def imap_unordered(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        futures = self.client.map(function, list(items), pure=False)
        return (value for _, value in self.distributed.as_completed(futures, with_results=True))

    def map(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        return list(self.client.gather(self.client.map(function, items, pure=False)))

    def submit_all(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        futures = [self.client.submit(function, item, pure=False) for item in items]
        return list(self.client.gather(futures))

    def call(self, function: "Function", item: "Any") -> "Any":
        return self.client.submit(function, item, pure=False).result()

    def close(self) -> None:
        self.client.close()
        self.cluster.close()
