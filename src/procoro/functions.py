"""What a function is: its kind, and its name in words. (`inspect` knows more, and costs 7 ms to import.)"""

from __future__ import annotations

import functools
from types import FunctionType, MethodType

TYPE_CHECKING = False  # by hand, see pool.py
if TYPE_CHECKING:
    from typing import Any

CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR = 0x20, 0x80, 0x200
FUNCTIONS = (FunctionType, MethodType)


def is_async(function: Any, kinds: int = CO_COROUTINE) -> bool:
    """Is this an `async def` function: itself, as a partial, a bound method, or the `__call__` of an instance?"""
    while isinstance(function, functools.partial):
        function = function.func
    if not isinstance(function, FUNCTIONS):
        function = type(function).__call__
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & kinds)


def name_of(function: Any) -> str:
    """What errors call it: its own name, or that of the function within a partial, or of its class."""
    name = getattr(function, "__qualname__", None) or getattr(getattr(function, "func", None), "__qualname__", None)
    return str(name or type(function).__qualname__)
