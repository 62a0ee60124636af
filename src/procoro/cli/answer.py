"""What runs in the workers: the user's function, and its value made JSON there rather than in the parent.

The parent only writes bytes, so packing values is spread over the cores too, and any value that can be
written can come back. What cannot be written is an *answer*, no exception: `--retries` would only repeat it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
from collections.abc import Awaitable, Callable
from functools import partial, reduce
from types import CoroutineType
from typing import Any

# The number of an input and its value; the number alone for an input that could not be read. Such an input
# takes the same way as the others, without a call of the user's function: so it keeps its place among them.
Job = tuple[int, object] | tuple[int]

# The number of an input, and its row as JSON or, as a str, why the function's value has none.
Answer = tuple[int, bytes | str]

# Made once: json.dumps would make one for each value.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_encode_ascii = json.JSONEncoder(allow_nan=False).encode


class ByName:
    """A function that travels as the names of its module and of itself, and arrives as the function.

    So whatever has a name can be called: a lambda, a partial, a method of an instance that the module made.
    """

    def __init__(self, function: Callable[[Any], Any], module: str, name: str) -> None:
        self.function = function
        self.module = module
        self.name = name

    def __reduce__(self) -> tuple[Callable[[str, str], Any], tuple[str, str]]:
        return resolve, (self.module, self.name)

    def __call__(self, value: Any) -> Any:
        return self.function(value)


def resolve(module: str, name: str) -> Any:
    """Import `module` and return what it calls `name`, which may be dotted (`Class.method`).

    Raises:
        AttributeError: there is nothing of that name; else whatever the import raises.
    """
    return reduce(getattr, name.split("."), importlib.import_module(module))


def answering(function: ByName) -> partial[Any]:
    """The callable that a pool maps over jobs. It is a coroutine function if `function` is one.

    A partial, because the pool looks through it for an `async def`; named like the user's function, because errors
    tell that name.
    """
    inner = function.function
    waits = inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__)
    named = partial(_answer_awaited if waits else _answer, function)
    named.__dict__.update(__module__=function.module, __name__=function.name, __qualname__=function.name)
    return named


def _answer(function: Callable[[Any], Any], job: Job) -> Answer:
    if len(job) == 1:
        return job[0], b""
    return job[0], _row(function(job[1]))


async def _answer_awaited(function: Callable[[Any], Awaitable[Any]], job: Job) -> Answer:
    if len(job) == 1:
        return job[0], b""
    return job[0], _row(await function(job[1]))


def _row(value: object) -> bytes | str:
    if isinstance(value, CoroutineType):
        value.close()
        name = value.__qualname__
        return f"result: the coroutine {name}, of which nothing has run: FUNCTION must be an `async def` that awaits it"
    try:
        return to_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        return _why_not_json(value) or f"result: {error}"


def to_json(value: object) -> bytes:
    """`value` as one line of JSON in UTF-8.

    NaN and the infinities are refused: JSON has none, and most readers reject the whole file. Lone
    surrogates, as in file names that are not UTF-8, are written as `\\udc..` escapes.

    Raises:
        TypeError, ValueError, RecursionError: some part of it has no JSON.
    """
    try:
        return _encode(value).encode()
    except UnicodeEncodeError:
        return _encode_ascii(value).encode()


def _why_not_json(value: object) -> str | None:
    """The first part of `value` that has no JSON, with its path: `result['tags']: a set is not JSON`."""
    try:
        return _fault_in(value, "result", ())
    except RecursionError:
        return "result: nested too deeply for JSON"


def _fault_in(value: object, path: str, around: tuple[int, ...]) -> str | None:
    if id(value) in around:
        return f"{path}: it contains itself"
    if isinstance(value, dict):
        inside = (*around, id(value))
        for key, item in value.items():
            if key is not None and not isinstance(key, str | int | float):
                return f"{path}: the key {key!r:.60} is {with_article(key)}; JSON has str keys"
            if fault := _fault_in(item, f"{path}[{key!r:.60}]", inside):
                return fault
        return None
    if isinstance(value, list | tuple):
        inside = (*around, id(value))
        faults = (_fault_in(item, f"{path}[{index}]", inside) for index, item in enumerate(value))
        return next(filter(None, faults), None)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path}: {value} is not JSON"
    if value is None or isinstance(value, str | int | float):
        return None
    return f"{path}: {with_article(value)} is not JSON"


def with_article(value: object) -> str:
    """The type of `value` with its article: `a set`, `an OrderedDict`, `a numpy.int64`."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
