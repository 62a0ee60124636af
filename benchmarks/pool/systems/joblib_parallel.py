"""joblib.Parallel, whose workers stay from one to the next. It chooses the size of its batches itself."""

from benchmarks.pool.systems import Adapter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from benchmarks.pool.systems import Function


class Joblib(Adapter):
    imports = "import joblib"

    def open(self, workers: int) -> None:
        import joblib

        self.joblib = joblib
        self.workers = workers

    def imap(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return self._run("generator", function, items)

    def imap_unordered(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        return self._run("generator_unordered", function, items)

    def _run(self, return_as: str, function: "Function", items: "Iterable[Any]") -> "Iterator[Any]":
        delayed = self.joblib.delayed(function)
        parallel = self.joblib.Parallel(self.workers, return_as=return_as)
        return iter(parallel(delayed(item) for item in items))

    def map(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        delayed = self.joblib.delayed(function)
        return list(self.joblib.Parallel(self.workers)(delayed(item) for item in items))

    def call(self, function: "Function", item: "Any") -> "Any":
        (value,) = self.joblib.Parallel(self.workers)([self.joblib.delayed(function)(item)])
        return value
