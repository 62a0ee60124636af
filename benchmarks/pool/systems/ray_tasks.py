"""Ray: tasks on a local cluster of as many CPUs as workers."""

from benchmarks.pool.systems import Adapter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from benchmarks.pool.systems import Function


class Ray(Adapter):
    imports = "import ray"

    def open(self, workers: int) -> None:
        import os

        import ray

        self.ray = ray
        self.tasks: dict[Function, Any] = {}
        os.environ |= {"PYTHONPATH": os.getcwd(), "RAY_USAGE_STATS_ENABLED": "0"}
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="error")

    def _submit(self, function: "Function", items: "Iterable[Any]") -> "list[Any]":
        if function not in self.tasks:
            self.tasks[function] = self.ray.remote(function)
        task = self.tasks[function]
        return [task.remote(item) for item in items]

    def imap(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return (self.ray.get(one) for one in self._submit(function, items))

    def imap_unordered(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        from ray.util import as_completed

        return iter(as_completed(self._submit(function, items), chunk_size=100))

    def map(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        return list(self.ray.get(self._submit(function, items)))

    def submit_all(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        return self.map(function, items)

    def call(self, function: "Function", item: "Any") -> "Any":
        (one,) = self._submit(function, [item])
        return self.ray.get(one)

    def close(self) -> None:
        self.ray.shutdown()
