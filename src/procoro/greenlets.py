"""`spawn`, `joinall`, `sleep`: greenlets in this process. gevent does the work; what it would not refuse, or not in
words, is refused here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import isnan
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from procoro.functions import CO_ASYNC_GENERATOR, CO_COROUTINE, is_async

if TYPE_CHECKING:
    from gevent import Greenlet

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def spawn(run: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Greenlet[P, R]:
    """Start `run(*args, **kwargs)` in a greenlet of this thread, as `gevent.spawn`.

    It begins when this thread next waits by `joinall`, `sleep` or another call of gevent's. Nothing is patched: a
    `time.sleep`, a `Pool`'s result or any other wait that gevent does not know stops all greenlets of the thread.

    Returns:
        A `gevent.Greenlet`: its `get(timeout=None)` waits for the value, `value` and `exception` tell how it ended,
        `kill()` ends it. An exception of `run` is printed on stderr, and stops no other greenlet.

    Raises:
        TypeError: `run` cannot be called, or is an `async def` function.
        ImportError: gevent is not installed; so do `joinall` and `sleep`.

    >>> from procoro import joinall, sleep, spawn
    >>> greenlets = [spawn(pow, 2, n) for n in range(3)]
    >>> [greenlet.value for greenlet in joinall(greenlets)]
    [1, 2, 4]
    """
    _check_function(run)
    greenlet: Greenlet[P, R] = _gevent().spawn(run, *args, **kwargs)
    return greenlet


def joinall(
    greenlets: Collection[T], timeout: float | None = None, raise_error: bool = False, count: int | None = None
) -> list[T]:
    """Wait until greenlets have ended, as `gevent.joinall`.

    Args:
        greenlets: what `spawn` has returned: a list, or another collection that has a length.
        timeout: wait for so many seconds at most; None: as long as it takes. Those that have not ended go on.
        raise_error: raise the first exception of a greenlet as soon as it is there? The others go on.
        count: wait for so many greenlets only; None: for all.

    Returns:
        Those that have ended, also by an exception; in the order in which they did while this waited.

    Raises:
        TypeError: not all of `greenlets` are greenlets, or `timeout` is not a number.
        ValueError: `timeout` is nan.
    """
    for one in greenlets:
        if not hasattr(one, "rawlink"):  # all that gevent can wait for has this
            raise TypeError(f"joinall waits for greenlets, as spawn returns them, got {one!r}")
    if timeout is not None:
        _check_seconds("timeout", timeout)
    ended: list[T] = _gevent().joinall(greenlets, timeout, raise_error, count)
    return ended


def sleep(seconds: float = 0, ref: bool = True) -> None:
    """Let the other greenlets of this thread run for `seconds` at least, as `gevent.sleep`.

    Args:
        seconds: 0 or less: as long as it takes until they wait, too.
        ref: does this wait keep `gevent.wait()` from returning?

    Raises:
        TypeError: `seconds` is not a number.
        ValueError: it is nan.
    """
    _check_seconds("seconds", seconds)
    _gevent().sleep(seconds, ref)


def _gevent() -> Any:
    """Imported when it is used: not by `from procoro import *`, nor by a worker that unpacks a function with such a
    name."""
    try:
        import gevent
    except ImportError as error:
        raise ImportError(
            f"spawn, joinall and sleep need gevent, which cannot be imported: {error}. Install it: pip install gevent",
            name="gevent",
        ) from error
    return gevent


def _check_function(run: Any) -> None:
    """An `async def` function would return at once, and gevent never run what it returned."""
    if callable(run) and not is_async(run, CO_COROUTINE | CO_ASYNC_GENERATOR):
        return
    if callable(run) or isinstance(run, CoroutineType):
        raise TypeError(
            f"spawn takes plain functions, not `async def` ones, got {run!r}: run it by asyncio, whose TaskGroup "
            "starts many at once; or give the function to a Pool, whose workers run `async def`, too"
        )
    raise TypeError(f"spawn takes a function and its arguments, as in spawn(f, x), got {run!r}")


def _check_seconds(name: str, value: Any) -> None:
    """With nan, gevent would sleep for ever, and its own time-outs with it."""
    try:
        is_nan = isnan(value)
    except TypeError:
        raise TypeError(f"{name} must be a number of seconds, got {value!r}") from None
    if is_nan:
        raise ValueError(f"{name} must be a number of seconds, got {value!r}")
