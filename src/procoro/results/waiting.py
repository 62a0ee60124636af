"""How those who wait are told: callbacks by a call, tasks by one wake-up of their event loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from procoro.sleeping import Sleep

if TYPE_CHECKING:
    import asyncio

    from procoro.conductor.conductor import Conductor

logger = logging.getLogger("procoro")


def refuse_in_crank(conductor: Conductor) -> None:
    """A callback that waits for a call would wait for itself; so would a forked child, which has no crank."""
    if conductor.crank.forked:
        from procoro import errors

        raise errors.PoolClosed("this call belongs to the parent process: a child that was forked cannot wait for it")
    if conductor.crank.is_here():
        raise RuntimeError(
            "a callback waits for a call: callbacks run in procoro's own thread, which would have to deliver it. "
            "Start the wait in a thread, or add a callback to that call instead"
        )


Waiting: TypeAlias = "Sleep | asyncio.Future[None]"


def wake(waiting: Sequence[Waiting]) -> None:
    """End these waits: threads' by the release of a lock, tasks' by one wake-up for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    last = None
    for task in waiting:
        if isinstance(task, Sleep):
            task.end()
            continue
        loop = task.get_loop()
        if loop is not last:
            last, those = loop, by_loop.setdefault(loop, [])
        those.append(task)
    for loop, those in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, those)
        except RuntimeError:
            pass  # it is closed: nobody waits any more


def _resolve(tasks: Sequence[asyncio.Future[None]]) -> None:
    for task in tasks:
        if not task.done():
            task.set_result(None)


def call_back(callback: Callable[[Any], object] | None, outcome: Any) -> None:
    """Call a callback of the user's; if it raises, that is logged and harms nothing."""
    if callback is None:
        return
    try:
        callback(outcome)
    except BaseException:  # also a SystemExit: it would end procoro's thread, and every wait would last for ever
        try:
            logger.exception("procoro: exception calling callback %r", callback)
        except BaseException:  # so does a log handler: there is nobody left to tell
            pass
