"""The functions that are called in the workers, and their inputs."""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # by hand: `typing` and `collections.abc` would be loaded before a start-up is timed
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    T = TypeVar("T")


def noop(value: "T") -> "T":
    return value


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def ints(count: int) -> "Sequence[int]":
    return range(count)


def strings(count: int) -> "Sequence[str]":
    """Of 20 characters."""
    return [f"{number:020d}" for number in range(count)]


def dicts(count: int) -> "Sequence[dict[str, object]]":
    """Three keys: a small row, as a program that reads JSON lines meets it."""
    return [{"id": number, "name": f"row {number}", "score": number / 7} for number in range(count)]


INPUTS: "dict[str, Callable[[int], Sequence[Any]]]" = {"ints": ints, "strings": strings, "dicts": dicts}
