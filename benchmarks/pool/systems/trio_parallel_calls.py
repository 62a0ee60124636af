"""trio-parallel: calls as tasks of a nursery. Workers stay for the whole process, and leave at its exit."""

from benchmarks.pool.systems import Adapter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from benchmarks.pool.systems import Function, Timed


class TrioParallel(Adapter):
    imports = "import trio, trio_parallel"

    def open(self, workers: int) -> None:
        import trio
        import trio_parallel

        self.trio = trio
        self.run_sync = trio_parallel.run_sync
        self.limiter = trio.CapacityLimiter(workers)

    def map(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        """As many tasks as there are workers, one call after the other in each."""
        values: list[Any] = [None] * len(items)
        numbers = iter(range(len(items)))

        async def work() -> None:
            for number in numbers:
                values[number] = await self._call(function, items[number])

        async def everything() -> None:
            async with self.trio.open_nursery() as nursery:
                for _ in range(self.limiter.total_tokens):
                    nursery.start_soon(work)

        self.trio.run(everything)
        return values

    def submit_all(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        """A task an item."""
        values: list[Any] = [None] * len(items)

        async def one(number: int) -> None:
            values[number] = await self._call(function, items[number])

        async def everything() -> None:
            async with self.trio.open_nursery() as nursery:
                for number in range(len(items)):
                    nursery.start_soon(one, number)

        self.trio.run(everything)
        return values

    def call(self, function: "Function", item: "Any") -> "Any":
        return self.trio.run(self._call, function, item)

    async def _call(self, function: "Function", item: "Any") -> "Any":
        return await self.run_sync(function, item, limiter=self.limiter)

    def one_by_one(self, function: "Function", items: "Iterable[Any]", clock: "Callable[[], float]") -> "Timed":
        async def everything() -> "Timed":
            found = []
            for item in items:
                began = clock()
                value = await self._call(function, item)
                found.append((value, clock() - began))
            return found

        found: Timed = self.trio.run(everything)
        return found
