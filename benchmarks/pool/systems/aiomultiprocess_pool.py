"""aiomultiprocess.Pool: a queue for each process, uvloop on both sides, and 100 calls at once in each."""

from benchmarks.pool import workload
from benchmarks.pool.systems import Adapter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from benchmarks.pool.systems import Function, Timed


async def noop(value: "Any") -> "Any":
    return value


async def nap(seconds: float) -> float:
    return workload.nap(seconds)


AWAITABLE: "dict[Function, Function]" = {workload.noop: noop, workload.nap: nap}  # it takes nothing else


class Aiomultiprocess(Adapter):
    imports = "import aiomultiprocess"

    def open(self, workers: int) -> None:
        import asyncio

        import uvloop

        self.asyncio = asyncio
        self.events = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.pool = self.events.run(self._open(workers))

    async def _open(self, workers: int) -> "Any":
        import aiomultiprocess
        import uvloop

        return aiomultiprocess.Pool(
            workers, childconcurrency=100, queuecount=workers, loop_initializer=uvloop.new_event_loop
        )

    def stream(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        async def consume() -> "list[Any]":
            return [value async for value in self.pool.map(AWAITABLE[function], items)]

        return self.events.run(consume())

    def map(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        async def wait() -> "list[Any]":
            return list(await self.pool.map(AWAITABLE[function], items))

        return self.events.run(wait())

    def submit_all(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        """A task an item."""

        async def everything() -> "list[Any]":
            calls = (self.pool.apply(AWAITABLE[function], (item,)) for item in items)
            return list(await self.asyncio.gather(*calls))

        return self.events.run(everything())

    def call(self, function: "Function", item: "Any") -> "Any":
        return self.events.run(self.pool.apply(AWAITABLE[function], (item,)))

    def one_by_one(self, function: "Function", items: "Iterable[Any]", clock: "Callable[[], float]") -> "Timed":
        async def everything() -> "Timed":
            found = []
            for item in items:
                began = clock()
                value = await self.pool.apply(AWAITABLE[function], (item,))
                found.append((value, clock() - began))
            return found

        found: Timed = self.events.run(everything())
        return found

    def close(self) -> None:
        async def end() -> None:
            self.pool.close()
            await self.pool.join()

        self.events.run(end())

    def leave(self) -> None:
        self.events.run(self.pool.__aexit__(None, None, None))
