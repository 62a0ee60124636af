"""asyncio: a fixed number of tasks, each of which takes the next input when it has done one. A task for each input
behind a semaphore is slower."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.models.hand.processes import Run


def runner(places: int, loop: str) -> Run:
    """`loop`: asyncio or uvloop."""
    if loop == "uvloop":
        import uvloop

        events = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    else:
        events = asyncio.Runner()
    return lambda call, inputs: events.run(_run(places, call, inputs))


async def _run(places: int, call: Callable[[Any], Any], inputs: Sequence[Any]) -> list[Any]:
    values: list[Any] = [None] * len(inputs)
    numbers = iter(range(len(inputs)))

    async def work() -> None:
        for number in numbers:
            values[number] = await call(inputs[number])

    await asyncio.gather(*(work() for _ in range(places)))
    return values
