"""What a handler must be."""

from __future__ import annotations

from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from procoro.functions import CO_ASYNC_GENERATOR, CO_GENERATOR, is_async


def runs_by_asyncio(handler: Callable[[Any], Any], model: str | None) -> bool:
    """Is it to be run by asyncio? Raises if `model` is none, or cannot run it."""
    if model not in (None, "asyncio", "greenlets"):
        raise ValueError(f"model must be 'asyncio' or 'greenlets', got {model!r}")
    code = getattr(handler, "__code__", None)
    if code is not None and code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR):
        raise TypeError(f"handler must be a function, and {handler!r} is a generator: it would do nothing when called")
    found = is_async(handler)
    if model == "greenlets" and found:
        raise ValueError(f"an `async def` handler runs by model='asyncio', and {handler!r} is one")
    return found if model is None else model == "asyncio"


def raised_by(error: BaseException, connection: object) -> bool:
    """Does it come out of a method of this connection, and not of another socket that the handler uses?"""
    at, found = error.__traceback__, False
    while at is not None and not found:
        code = at.tb_frame.f_code
        if code.co_argcount and code.co_varnames[0] == "self":
            seen = at.tb_frame.f_locals
            found = seen.get("self") is connection
            if type(seen) is dict:  # up to Python 3.12 the frame keeps it: in a circle with the error
                seen.clear()
        at = at.tb_next
    return found


def refuse_awaitable(value: object) -> None:
    """What a plain handler or hook has returned: if that is to be awaited, it has done nothing."""
    if isinstance(value, CoroutineType):
        value.close()
        raise TypeError(
            f"{value.__qualname__} returned a coroutine: it needs an `async def` handler, or model='asyncio'"
        )
    if isinstance(value, (AsyncGeneratorType, GeneratorType)):
        raise TypeError(f"{value.__qualname__} returned a generator: nothing of it has run")
