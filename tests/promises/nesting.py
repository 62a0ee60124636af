"""What workers run that have pools of their own. Apart from the tests, so that a worker imports no pytest."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import psutil

from procoro import Pool
from procoro.results import Result
from tests.promises import calls

__all__ = ["Result"]

below: list[Pool] = []


def at_depth(depth: int, function: Callable[..., Any], *args: Any) -> Any:
    """Call it so many levels of pools further down."""
    if not depth:
        return function(*args)
    with Pool(1) as pool:
        return pool.apply(at_depth, (depth - 1, function, *args))


def streams(count: int) -> int:
    with Pool(2) as pool:
        return sum(pool.imap(calls.double, iter(range(count))))


async def awaits(count: int) -> int:
    async with Pool(2) as pool:
        return sum(await asyncio.gather(*(pool.submit(calls.double, i) for i in range(count))))


def in_threads(count: int) -> list[int]:
    found: list[int] = []

    def use(number: int) -> None:
        with Pool(1) as pool:
            found.append(pool.apply(calls.double, (number,)))

    threads = [threading.Thread(target=use, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)


def forget(_: object) -> list[int]:
    """Keep a pool that has much to do; the pids of all that are below."""
    pool = Pool(2)
    below.append(pool)
    while len(found := psutil.Process().children(recursive=True)) < 3:
        pool.apply(calls.pid)
    for _ in range(5):
        pool.submit(calls.hang)
    return [process.pid for process in found]


def wait_below(_: object) -> None:
    below[0].submit(calls.hang).get()


def drop(x: int) -> int:
    return Pool(1).submit(calls.double, x).get()


def start_below() -> None:
    below.append(Pool(1))


def use_below(x: int, function: Callable[..., Any] = calls.double) -> Any:
    return below[0].apply(function, (x,) if function is calls.double else ())
