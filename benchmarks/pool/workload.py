"""The functions that are called in the workers, and their inputs. All give something back that can be checked."""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # by hand: `typing` and `collections.abc` would be loaded before a start-up is timed
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    T = TypeVar("T")

ARRAY = 8 << 20  # bytes


def noop(value: "T") -> "T":
    return value


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def burn(milliseconds: float) -> float:
    """Compute so long, by the CPU's time: who has to share a core is held up."""
    end = time.thread_time() + milliseconds / 1e3
    while time.thread_time() < end:
        pass
    return milliseconds


def watched_nap(seconds: float) -> tuple[float, float, float]:
    """`seconds`, and from when to when it slept, by the machine's clock."""
    began = time.monotonic()
    time.sleep(seconds)
    return seconds, began, time.monotonic()


def head_and_tail(array: "Any") -> "list[float]":
    """The array's first, middle and last element, and how many it has."""
    return [float(array[0]), float(array[len(array) // 2]), float(array[-1]), float(len(array))]


def array_of(number: int) -> "Any":
    import numpy

    return numpy.full(ARRAY // 8, float(number))


def ints(count: int) -> "Sequence[int]":
    return range(count)


def strings(count: int) -> "Sequence[str]":
    """Of 20 characters."""
    return [f"{number:020d}" for number in range(count)]


def dicts(count: int) -> "Sequence[dict[str, object]]":
    """Three keys: a small row, as a program that reads JSON lines meets it."""
    return [{"id": number, "name": f"row {number}", "score": number / 7} for number in range(count)]


INPUTS: "dict[str, Callable[[int], Sequence[Any]]]" = {"ints": ints, "strings": strings, "dicts": dicts}
