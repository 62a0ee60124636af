"""Waiting without blocking: whoever waits lets others run, and goes on when what it waits for has come."""

import asyncio
import importlib.util
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from tests.promises.forks import PATIENCE

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

_runs = [pytest.param(asyncio.run, id="asyncio")]
if importlib.util.find_spec("uvloop") is not None:
    uvloop = importlib.import_module("uvloop")
    uvloop.run(asyncio.sleep(0))  # it keeps a pipe once it was used
    _runs.append(pytest.param(uvloop.run, id="uvloop"))

every_loop = pytest.mark.parametrize("run", _runs)


async def meanwhile(waiting: Coroutine[Any, Any, T], then: Callable[[], object]) -> T:
    """Await it. When the loop has gone round for a while, and it still waits, do what ends its wait."""
    task = asyncio.create_task(waiting)
    for _ in range(20):
        await asyncio.sleep(0.002)
    assert not task.done(), task.result()
    then()
    return await asyncio.wait_for(task, PATIENCE)


# The same in a program whose process gevent has patched
GREENLETS = """
    from gevent import monkey
    monkey.patch_all()
    import gevent, os, sys
    from tests.gate import Gate

    def meanwhile(wait, then):
        greenlet = gevent.spawn(wait)
        for _ in range(20):
            gevent.sleep(0.002)
        assert not greenlet.ready(), greenlet.value
        then()
        return greenlet.get(timeout=20)

    def forked(function):
        if (child := os.fork()) == 0:
            function()
            os._exit(0)
        return child
"""
