"""Who takes part, each as a user of it would write. Where `imports` fails, it is left out.

Each is made as `make(processes, places)`: so many processes, and so many calls at once in each.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from benchmarks.compare.catalogue import System
from benchmarks.models.hand.processes import Processes

Call = Callable[[Any], Any]


class Runs(Protocol):
    """Runs many calls."""

    def run(self, call: Call, inputs: Sequence[Any]) -> list[Any]:
        """The values, in order."""

    def close(self) -> None: ...


class Procoro:
    def __init__(self, model: str, processes: int, places: int) -> None:
        from procoro import Pool

        self.pool = Pool(processes, model=model, concurrency=None if model == "serial" else places)

    def run(self, call: Call, inputs: Sequence[Any]) -> list[Any]:
        return self.pool.map(call, inputs)

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()


class Submits(Procoro):
    """All are submitted, and then waited for."""

    def run(self, call: Call, inputs: Sequence[Any]) -> list[Any]:
        results = [self.pool.submit(call, given) for given in inputs]
        return [result.get() for result in results]


class Awaits(Procoro):
    """As many tasks as there are places, each of which awaits one call after the other."""

    def __init__(self, loop: str, processes: int, places: int) -> None:
        super().__init__("serial", processes, places)
        self.places = places
        self.events = _events(loop)

    def run(self, call: Call, inputs: Sequence[Any]) -> list[Any]:
        return self.events.run(self._run(call, inputs))

    async def _run(self, call: Call, inputs: Sequence[Any]) -> list[Any]:
        values: list[Any] = [None] * len(inputs)
        numbers = iter(range(len(inputs)))

        async def work() -> None:
            for number in numbers:
                values[number] = await self.pool.submit(call, inputs[number])

        await asyncio.gather(*(work() for _ in range(self.places)))
        return values

    def close(self) -> None:
        super().close()
        self.events.close()


class Aiomultiprocess:
    """At its best: a queue for each process, uvloop on both sides, and no fewer calls at once than are allowed."""

    def __init__(self, processes: int, places: int) -> None:
        self.events = _events("uvloop")
        self.pool = self.events.run(self._open(processes, places))

    async def _open(self, processes: int, places: int) -> Any:
        import aiomultiprocess
        import uvloop

        return aiomultiprocess.Pool(
            processes, childconcurrency=places, queuecount=processes, loop_initializer=uvloop.new_event_loop
        )

    def run(self, call: Call, inputs: Sequence[Any]) -> list[Any]:
        return list(self.events.run(self._run(call, inputs)))

    async def _run(self, call: Call, inputs: Sequence[Any]) -> Any:
        return await self.pool.map(call, inputs)

    def close(self) -> None:
        self.events.run(self._close())
        self.events.close()

    async def _close(self) -> None:
        self.pool.terminate()
        await self.pool.join()


def _events(loop: str) -> asyncio.Runner:
    """`loop`: asyncio or uvloop."""
    if loop == "asyncio":
        return asyncio.Runner()
    import uvloop

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def _procoro(model: str, name: str = "procoro") -> System:
    return System(name, partial(Procoro, model), "import procoro; procoro.Pool")


UVLOOP = "import uvloop"
AIOMULTIPROCESS = System("aiomultiprocess", Aiomultiprocess, "import aiomultiprocess, uvloop")

GREENLETS = (_procoro("greenlets"), System("gevent by hand", partial(Processes, "greenlets"), "import gevent"))
THREADS = (_procoro("threads"), System("by hand", partial(Processes, "threads")))


def _tasks(loop: str) -> Callable[[int, int], Processes]:
    return lambda processes, places: Processes("tasks", processes, places, loop)


TASKS = (
    _procoro("asyncio"),
    System("asyncio by hand", _tasks("asyncio")),
    System("uvloop by hand", _tasks("uvloop"), UVLOOP),
    AIOMULTIPROCESS,
)
SUBMITS = (
    System("await", partial(Awaits, "asyncio")),
    System("await, uvloop", partial(Awaits, "uvloop"), UVLOOP),
    System("blocking", partial(Submits, "serial")),
)
