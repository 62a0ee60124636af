"""Arguments are checked once, at the door; what is wrong with one is said in words."""

from __future__ import annotations

TYPE_CHECKING = False  # by hand, see pool.py
if TYPE_CHECKING:
    from typing import Any


# The standard library's own words, where programs match on them
WORDS = {
    "processes": "Number of processes must be at least 1",
    "max_workers": "max_workers must be greater than 0",
}
MODELS = {"serial": 1, "threads": 32, "greenlets": 100, "asyncio": 100}  # and the calls that each runs at once
MOST_AT_ONCE = 10_000  # calls in a worker
MOST_WORKERS = 4_096
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def count(name: str, value: Any, least: int) -> int:
    """A whole number of `least` at least."""
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    number = int(value.__index__())
    if number < least:
        raise ValueError(f"{WORDS.get(name, f'{name} must be >= {least}')}, got {number}")
    return number


def chunksize(value: Any) -> int | None:
    """Calls that travel together at least; or None."""
    if value is None:
        return None
    try:
        return count("chunksize", value, 1)
    except TypeError as error:
        if hasattr(type(value), "__iter__") and not isinstance(value, (str, bytes)):  # as the builtin `map` takes them
            raise TypeError(f"{error}; for two inputs: starmap(f, zip(a, b))") from None
        raise


def seconds(name: str, value: Any) -> float | None:
    """Seconds, more than none; or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, got {value!r}")
    if not value > 0:
        raise ValueError(f"{name} must be > 0 seconds, got {value!r} (None means no limit)")
    return float(value)


def nbytes(name: str, value: Any) -> int | None:
    """Bytes, as a number or in words such as "2 GiB"; or None."""
    if value is None:
        return None
    if isinstance(value, str):
        import re

        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?)i?b?\s*", value.lower())
        if match is None:
            raise ValueError(f'{name} must be bytes or words such as "2 GiB", got {value!r}')
        value = int(float(match[1]) * UNITS[match[2]])
    return count(name, value, 1)


def processes(number: Any) -> int:
    """How many workers."""
    workers = count("processes", number, 1)
    if workers > MOST_WORKERS:
        raise ValueError(
            f"processes must be <= {MOST_WORKERS:,}, got {workers:,}: for calls that wait, give each worker many "
            "of them by `concurrency`"
        )
    return workers


def model(name: Any, concurrency: Any) -> tuple[str | None, int]:
    """How workers run calls (None: by the function), and how many of them at once."""
    if name is not None and not (isinstance(name, str) and name in MODELS):
        raise ValueError(f"model must be one of {', '.join(map(repr, MODELS))} or None, got {name!r}")
    if concurrency is None:
        return name, MODELS["asyncio" if name is None else name]
    number = count("concurrency", concurrency, 1)
    if number > MOST_AT_ONCE:
        raise ValueError(f"concurrency must be <= {MOST_AT_ONCE:,} calls in a worker, got {number:,}: use more workers")
    if name == "serial" and number > 1:
        raise ValueError(
            f"a serial worker runs one call at a time, got concurrency={number}: choose a model of "
            '"threads", "greenlets" or "asyncio"'
        )
    return name, number


def iterable(value: Any) -> None:
    """Something that `for` takes."""
    kind = type(value)
    if hasattr(kind, "__aiter__") and not hasattr(kind, "__iter__"):
        raise TypeError(
            f"{kind.__name__!r} object is not iterable but by `async for`: submit what it gives as it comes, as in "
            "`results = [pool.submit(f, x) async for x in inputs]`"
        )
    if not hasattr(kind, "__iter__") and not hasattr(kind, "__getitem__"):
        raise TypeError(f"{kind.__name__!r} object is not iterable")


def function(value: Any) -> None:
    """Something that can be called."""
    if not callable(value):
        raise TypeError(f"a callable is needed, got {value!r}: pass the function and its arguments, as in submit(f, 1)")


def row(name: str, value: Any) -> tuple[Any, ...]:
    """The arguments of one call."""
    if not hasattr(type(value), "__iter__") and not hasattr(type(value), "__getitem__"):
        raise TypeError(f"{name} must be a tuple of arguments, got {value!r}: write ({value!r},) for one")
    return tuple(value)


def callback(name: str, value: Any) -> None:
    """Something that can be called, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable, got {value!r}")
