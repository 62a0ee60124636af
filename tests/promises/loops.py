"""What asyncio workers run: coroutines that use the loop they are in."""

import asyncio
import gc
import os
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

from tests.promises.meetings import Meeting

session: dict[str, Any] = {}
tasks: set[asyncio.Task[Any]] = set()
generators: list[Any] = []


async def module_of_the_loop() -> str:
    return type(asyncio.get_running_loop()).__module__


async def number_of_the_loop(_: object = None) -> tuple[int, int]:
    await asyncio.sleep(0)
    return os.getpid(), id(asyncio.get_running_loop())


async def numbers_of_tasks(meeting: Meeting) -> tuple[int, int]:
    first = asyncio.current_task()
    await meeting.acome()
    return id(first), id(asyncio.current_task())


async def later(x: Any) -> Any:
    await asyncio.sleep(0.001)
    return x


async def groups(x: int) -> list[int]:
    async with asyncio.TaskGroup() as group:
        started = [group.create_task(later(x + i)) for i in range(3)]
    return [task.result() for task in started]


async def gathers(x: int) -> list[int]:
    return await asyncio.gather(*(later(x + i) for i in range(3)))


async def group_that_fails() -> None:
    async def fail(words: str) -> None:
        raise ValueError(words)

    async with asyncio.TaskGroup() as group:
        group.create_task(fail("first"))
        group.create_task(fail("second"))


async def times_out(seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            await asyncio.sleep(60)
    except TimeoutError as error:
        return type(error).__name__
    return "it did not"


async def waits_for(seconds: float) -> str:
    try:
        await asyncio.wait_for(asyncio.sleep(60), seconds)
    except TimeoutError as error:
        return type(error).__name__
    return "it did not"


async def to_thread() -> str:
    here = threading.get_ident()
    return "in a thread" if await asyncio.to_thread(threading.get_ident) != here else "here"


# --------------------------------------------------------------------------------------- on the way out


class Closes:
    def __init__(self, swallows: bool = False) -> None:
        self.swallows = swallows

    async def __aenter__(self) -> "Closes":
        return self

    async def __aexit__(self, *_: object) -> bool:
        await asyncio.sleep(0)
        if not self.swallows:
            raise OSError("cannot close")
        return True


async def leaves_badly(words: str | None) -> None:
    async with Closes():
        if words:
            raise ValueError(words)


async def swallows_on_leaving() -> str:
    async with Closes(swallows=True):
        raise ValueError
    return "went on"


# ------------------------------------------------------------------------------------------- initializers


async def open_session(name: str) -> None:
    """Made in the loop, as the sessions of HTTP clients want to be."""
    await asyncio.sleep(0)
    session.update(name=name, loop=asyncio.get_running_loop(), lock=asyncio.Lock())


def open_session_at_once(name: str) -> None:
    session.update(name=name, loop=None, lock=asyncio.Lock())


async def fails_to_open() -> None:
    await asyncio.sleep(0)
    raise LookupError("no session")


async def uses_session(_: object) -> tuple[str, bool]:
    async with session["lock"]:
        await asyncio.sleep(0.001)
    return session["name"], session["loop"] is asyncio.get_running_loop()


def name_of_session() -> Any:
    return session.get("name")


# -------------------------------------------------------------------------------------- what is left over


async def starts_and_leaves(given: tuple[Meeting, Meeting, Any]) -> Any:
    meeting, notes, who = given

    async def stay() -> None:
        try:
            await meeting.acome(who)
            notes.sign(f"{who} ended")
        except asyncio.CancelledError:
            notes.sign(f"{who} CancelledError")
            raise

    task = asyncio.create_task(stay())
    tasks.add(task)
    await asyncio.sleep(0)
    return who


async def leaves_a_generator(notes: Meeting) -> int:
    async def count() -> AsyncIterator[int]:
        try:
            for x in range(10):
                yield x
        finally:
            await asyncio.sleep(0)
            notes.sign("closed")

    generator = count()
    generators.append(generator)
    return await anext(generator)


async def forgets_a_failure() -> int:
    async def fail() -> None:
        raise LookupError("forgotten")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0.001)
    del task
    gc.collect()
    return 1


# ------------------------------------------------------------------------------------ against the loop


async def awaits_a_task_that_raises(error: BaseException) -> str:
    async def fail() -> None:
        await asyncio.sleep(0.001)
        raise error

    try:
        await asyncio.create_task(fail())
    except BaseException as raised:
        return f"{type(raised).__name__}: {raised}"
    return "it returned"


async def stops_the_loop(x: int) -> int:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.001)
    return x


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(10)


# ------------------------------------------------------------------------------------------------ talking

_port: int | None = None


async def serves(count: int) -> int:
    """Answer so many clients."""
    global _port
    served = 0
    enough = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        served += 1
        if served == count:
            enough.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, backlog=200) as server:
        _port = server.sockets[0].getsockname()[1]
        await enough.wait()
    return served


async def port_of_the_server() -> int:
    while _port is None:
        await asyncio.sleep(0.001)
    return _port


async def asks(given: tuple[int, str]) -> str:
    port, words = given
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{words}\n".encode())
    answer = (await reader.readline()).decode().strip()
    writer.close()
    await writer.wait_closed()
    return answer


def has_loaded(names: list[str]) -> bool:
    return any(name in sys.modules for name in names)


async def forgets_an_await() -> object:
    return cancels_itself()
