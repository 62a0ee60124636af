"""What a handler must be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from procoro.calls import is_async


def kind(handler: Callable[[Any], Any], model: str | None) -> bool:
    """Is it to be run by asyncio? Raises if `model` is none, or cannot run it."""
    if model not in (None, "asyncio", "greenlets"):
        raise ValueError(f"model must be 'asyncio' or 'greenlets', got {model!r}")
    if inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
        raise TypeError(f"handler must be a function, and {handler!r} is a generator: it would do nothing when called")
    found = is_async(handler)
    if model == "greenlets" and found:
        raise ValueError(f"an `async def` handler runs by model='asyncio', and {handler!r} is one")
    return found if model is None else model == "asyncio"


def refuse_awaitable(value: object) -> None:
    """What a plain handler has returned: if that is to be awaited, it has done nothing."""
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError(f"the handler returned a coroutine of {value.__qualname__}: it needs model='asyncio'")
    if inspect.isasyncgen(value) or inspect.isgenerator(value):
        raise TypeError(f"the handler returned a generator of {value.__qualname__}: nothing of it has run")
