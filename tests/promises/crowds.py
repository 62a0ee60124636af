"""What workers run that run many calls at once; each for asyncio, too. Apart from the tests: it imports no pytest."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from procoro import Pool
from tests.promises.meetings import PATIENCE, Book, Meeting

MODELS = ["threads", "greenlets", "asyncio"]  # those that run many at once

Function = Callable[..., Any]


def fitting(model: str | None, function: Function) -> Function:
    """A function in the form that a model runs beside others: for asyncio, its `async def` twin."""
    if model in ("asyncio", None):
        twin: Function = getattr(sys.modules[function.__module__], f"a{function.__name__}")
        return twin
    return function


def workers_of(pool: Pool, model: str | None, folder: Path, size: int, places: int) -> list[int]:
    """The pids of a pool's workers, all of which are ready: all their places were taken."""
    meeting = Meeting(folder)
    met = [pool.submit(fitting(model, meet), meeting) for _ in range(size * places)]
    pids = set(meeting.reached(size * places))
    meeting.end()
    for result in met:
        result.get(PATIENCE)
    assert len(pids) == size
    return sorted(pids)


# ------------------------------------------------------------------------------- each in its two forms


def meet(meeting: Meeting, value: Any = None) -> Any:
    meeting.come(value)
    return value


async def ameet(meeting: Meeting, value: Any = None) -> Any:
    await meeting.acome(value)
    return value


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


async def stall(seconds: float) -> None:
    """Block the loop."""
    time.sleep(seconds)


async def anap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def enter(book: Book, seconds: float = 0.02, kind: str = "") -> int:
    book.write(f"+{kind}")
    time.sleep(seconds)
    book.write(f"-{kind}")
    return os.getpid()


async def aenter(book: Book, seconds: float = 0.02, kind: str = "") -> int:
    book.write(f"+{kind}")
    await asyncio.sleep(seconds)
    book.write(f"-{kind}")
    return os.getpid()


def add(a: int, b: int = 0, *, c: int = 0) -> int:
    time.sleep(0)
    return a + b + c


async def aadd(a: int, b: int = 0, *, c: int = 0) -> int:
    await asyncio.sleep(0)
    return a + b + c


def pid(_: object = None) -> int:
    return os.getpid()


async def apid(_: object = None) -> int:
    return os.getpid()


def call(function: Function, *args: Any) -> Any:
    """Any plain function, in a call."""
    return function(*args)


async def acall(function: Function, *args: Any) -> Any:
    return function(*args)


# ------------------------------------------------------------------------------------- the forms of async


class Adds:
    """Has `async def` of every kind."""

    def __init__(self, most: int = 0) -> None:
        self.most = most

    async def method(self, a: int, b: int = 0) -> int:
        await asyncio.sleep(0)
        return self.most + a + b

    @classmethod
    async def of_class(cls, a: int, b: int = 0) -> int:
        await asyncio.sleep(0)
        return a + b

    @staticmethod
    async def static(a: int, b: int = 0) -> int:
        await asyncio.sleep(0)
        return a + b


class Called(Adds):
    async def __call__(self, a: int, b: int = 0) -> int:
        return await self.method(a, b)


FORMS: dict[str, Function] = {
    "function": aadd,
    "partial": partial(aadd, c=0),
    "partial of a partial": partial(partial(aadd), c=0),
    "bound method": Adds().method,
    "class method": Adds.of_class,
    "static method": Adds.static,
    "instance": Called(),
}


def both_ways(x: int) -> Any:
    """A value on one path, a coroutine on the other."""
    return aadd(x, x) if x % 2 else x + x


class Waits:
    """Is no coroutine, but can be awaited."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __await__(self) -> Any:
        return aadd(self.value).__await__()


def is_patched() -> bool:
    """Has gevent put its own functions in the place of those that block?"""
    return "gevent" in time.sleep.__module__ or "gevent" in threading.Lock().__class__.__module__


def nap_as_a_future(seconds: float) -> Any:
    """A future of the loop that runs this."""
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, future.set_result, "future")
    return future


def meet_if(given: tuple[Meeting, bool, Any]) -> Any:
    meeting, waits, value = given
    if waits:
        meeting.come()
    return value


async def ameet_if(given: tuple[Meeting, bool, Any]) -> Any:
    meeting, waits, value = given
    if waits:
        await meeting.acome()
    return value


def number_and_pid(x: int) -> tuple[int, int]:
    time.sleep(0.002)
    return x, os.getpid()


async def anumber_and_pid(x: int) -> tuple[int, int]:
    await asyncio.sleep(0.002)
    return x, os.getpid()


_together = 0


def waits_for_all(count: int) -> int:
    """Until so many are in this worker."""
    global _together
    _together += 1
    while _together < count:
        time.sleep(0.2)
    return _together


async def awaits_for_all(count: int) -> int:
    global _together
    _together += 1
    while _together < count:
        await asyncio.sleep(0.2)
    return _together


def gather(meeting: Meeting, x: int) -> int:
    """As `meet`, for crowds so large that looking often would cost too much."""
    meeting.sign(x)
    while not meeting.is_over():
        time.sleep(0.5)
    return x


async def agather(meeting: Meeting, x: int) -> int:
    meeting.sign(x)
    while not meeting.is_over():
        await asyncio.sleep(0.5)
    return x


def uses_a_pool(model: str | None, x: int) -> list[int]:
    with Pool(1, model=model) as pool:
        return pool.map(add if model in ("serial", None) else fitting(model, add), [x, x + 1, x + 2])


async def auses_a_pool(model: str | None, x: int) -> list[int]:
    async with Pool(1, model=model) as pool:
        function = add if model in ("serial", None) else fitting(model, add)
        values = [value async for value in pool.imap(function, [x, x + 1])]
        return [*values, await pool.submit(function, x + 2)]
