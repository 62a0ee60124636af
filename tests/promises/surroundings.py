"""What workers run that looks around, and that says something."""

import asyncio
import logging
import threading
import time
from contextvars import ContextVar
from typing import Any

from procoro import current_process
from tests.promises.misbehaviour import BASES

__all__ = ["BASES"]

variable: ContextVar[Any] = ContextVar("variable", default="nobody's")
local = threading.local()


def set_variable(value: Any) -> None:
    variable.set(value)


async def aset_variable(value: Any) -> None:
    await asyncio.sleep(0)
    variable.set(value)


def read_variable(_: object = None) -> Any:
    return variable.get()


async def aread_variable(_: object = None) -> Any:
    await asyncio.sleep(0)
    return variable.get()


def change_variable(x: int) -> tuple[Any, int]:
    before = variable.get()
    variable.set(x)
    time.sleep(0.005)
    return before, variable.get()


async def achange_variable(x: int) -> tuple[Any, int]:
    before = variable.get()
    variable.set(x)
    await asyncio.sleep(0.005)
    return before, variable.get()


# -------------------------------------------------------------------------------------------------- threads


def thread_name(seconds: float) -> tuple[str, bool]:
    time.sleep(seconds)
    thread = threading.current_thread()
    return thread.name, thread.daemon


def process_name() -> str:
    return current_process().name


def count_in_a_local(seconds: float) -> int:
    time.sleep(seconds)
    local.count = getattr(local, "count", 0) + 1
    count: int = local.count
    return count


def name_and_count(seconds: float) -> tuple[str, int]:
    return threading.current_thread().name, count_in_a_local(seconds)


def number_of_threads() -> int:
    return threading.active_count()


def runs_asyncio(x: int) -> int:
    async def double() -> int:
        await asyncio.sleep(0.01)
        return x + x

    return asyncio.run(double())


def starts_threads(x: int) -> list[int]:
    found: list[int] = []
    threads = [threading.Thread(target=found.append, args=(x + i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)


def leaves_a_thread() -> str:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return "it lives on"


# ---------------------------------------------------------------------------------------------------- saying


def _log(x: int) -> int:
    logging.getLogger("tests.crowds").info("call %s says", x)
    import os

    return os.getpid()


def logs(x: int) -> int:
    time.sleep(0.002)
    return _log(x)


async def alogs(x: int) -> int:
    await asyncio.sleep(0.002)
    return _log(x)


def prints(x: int) -> None:
    time.sleep(0.001)
    print(x, "x" * (x * 7))


async def aprints(x: int) -> None:
    await asyncio.sleep(0.001)
    print(x, "x" * (x * 7))


def prints_a_part(x: int) -> None:
    time.sleep(0.001)
    print(f"<{x}>", end="")


async def aprints_a_part(x: int) -> None:
    await asyncio.sleep(0.001)
    print(f"<{x}>", end="")


def prints_and_fails() -> None:
    print("failing", end="")
    raise ValueError


async def aprints_and_fails() -> None:
    print("failing", end="")
    raise ValueError
