"""How a function is called with an input as it came."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from procoro.functions import is_async
from procoro.wire.inputs import CARRIED, ONE, STAR


def as_plain_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """An `async def` function as one that runs to its end; any other as it is."""
    if not is_async(function):
        return function
    import asyncio

    def run_to_the_end(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return run_to_the_end


def finish(coroutine: Coroutine[Any, Any, Any], context: Context) -> None:
    """Run it to its end, in this context: what it sets there is to be seen by others."""
    import asyncio

    with asyncio.Runner() as runner:
        runner.run(coroutine, context=context)


def caller(function: Callable[..., Any], shape: int, load: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """What runs the function with an input as it came."""
    if shape == ONE:
        return function if load is None else lambda given: function(load(given))
    unpack = load or _as_it_is
    if shape in (STAR, CARRIED):
        return lambda given: function(*unpack(given))

    def full(given: Any) -> Any:
        args, kwargs = unpack(given)
        return function(*args, **kwargs)

    return full


def carried(adapt: Callable[[Any], Any]) -> Callable[..., Any]:
    """What calls functions that come with their calls."""

    def apply(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return adapt(function)(*args, **kwargs)

    return apply


def _as_it_is(given: Any) -> Any:
    return given
