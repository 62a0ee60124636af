"""Calls that return and raise things of every kind; each for asyncio, too."""

import asyncio
import threading
import time
from typing import Any


def outcome(x: int) -> Any:
    """A value or an exception, sooner or later, small or large, one that can travel or one that cannot."""
    time.sleep(x % 7 / 1000)
    return _outcome(x)


async def aoutcome(x: int) -> Any:
    await asyncio.sleep(x % 7 / 1000)
    return _outcome(x)


def _outcome(x: int) -> Any:
    match x % 100:
        case 13:
            raise ValueError(f"no {x}")
        case 29:
            return {"deep": threading.Lock()}
        case 31:
            return _numbers(x)
        case 37:
            return bytes([x % 251]) * 300_000
        case 41:
            raise Locked(f"locked {x}")
        case 43:
            return None
        case 47:
            return "x" * (x % 5000)
    return x + x


def _numbers(x: int) -> Any:
    import numpy

    return numpy.full(50_000, x, dtype="i8")


class Locked(Exception):
    """Cannot travel."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.lock = threading.Lock()


def as_text(x: int) -> str:
    time.sleep(x % 3 / 1000)
    return str(x) * 400


async def aas_text(x: int) -> str:
    await asyncio.sleep(x % 3 / 1000)
    return str(x) * 400


def bytes_of(given: tuple[int, int]) -> bytes:
    x, size = given
    time.sleep(x % 3 / 1000)
    return bytes([x % 256]) * size


async def abytes_of(given: tuple[int, int]) -> bytes:
    x, size = given
    await asyncio.sleep(x % 3 / 1000)
    return bytes([x % 256]) * size


class Springs:
    """Whoever packs it is in for a surprise."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


def springs(error: BaseException | None) -> Springs | None:
    time.sleep(0.001)
    return error and Springs(error)


async def asprings(error: BaseException | None) -> Springs | None:
    await asyncio.sleep(0.001)
    return error and Springs(error)
