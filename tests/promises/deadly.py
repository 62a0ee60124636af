"""What ends workers in which many calls run."""

import asyncio
import os
import time
from pathlib import Path

from tests.promises import calls
from tests.promises.meetings import LOOK, Meeting

hoarded: list[bytes] = []


def _when_there(path: Path) -> bool:
    return path.exists()


def exits(go: Path) -> None:
    while not _when_there(go):
        time.sleep(LOOK)
    os._exit(3)


async def aexits(go: Path) -> None:
    while not _when_there(go):
        await asyncio.sleep(LOOK)
    os._exit(3)


def kills(go: Path) -> None:
    while not _when_there(go):
        time.sleep(LOOK)
    calls.kill_self()


async def akills(go: Path) -> None:
    while not _when_there(go):
        await asyncio.sleep(LOOK)
    calls.kill_self()


def dies_if(given: tuple[str, int, bool]) -> int:
    """Among neighbours: it gives them time to begin."""
    _, x, dies = given
    time.sleep(0.02)
    if dies:
        os._exit(3)
    return x


async def adies_if(given: tuple[str, int, bool]) -> int:
    _, x, dies = given
    await asyncio.sleep(0.02)
    if dies:
        os._exit(3)
    return x


def signs_and_dies_sometimes(given: tuple[Meeting, int]) -> int:
    notes, x = given
    notes.sign(x)
    time.sleep(0.002)
    if x % 90 == 50:
        calls.kill_self()
    return x


async def asigns_and_dies_sometimes(given: tuple[Meeting, int]) -> int:
    notes, x = given
    notes.sign(x)
    await asyncio.sleep(0.002)
    if x % 90 == 50:
        calls.kill_self()
    return x


def _dies_once(folder: str, x: int) -> int:
    if x % 40 == 20 and calls.note(f"{folder}/{x}") == 1:
        calls.kill_self()
    return x


def dies_once(given: tuple[str, int]) -> int:
    time.sleep(0.002)
    return _dies_once(*given)


async def adies_once(given: tuple[str, int]) -> int:
    await asyncio.sleep(0.002)
    return _dies_once(*given)


def hoards(meeting: Meeting, megabytes: int) -> None:
    hoarded.append(b"x" * (megabytes << 20))
    meeting.come("hoards")


async def ahoards(meeting: Meeting, megabytes: int) -> None:
    hoarded.append(b"x" * (megabytes << 20))
    await meeting.acome("hoards")


def _last(folder: str, count: int) -> bool:
    with open(f"{folder}/ended", "ab", buffering=0) as file:
        file.write(b".")
        return file.tell() == count  # where our own byte is: two threads may see the file at the same size


def last_one_dies(folder: str, x: int, count: int) -> int:
    """All others have ended when it does: it comes last, and gives them a moment more."""
    time.sleep(0.01)
    if _last(folder, count):
        time.sleep(0.3)
        calls.kill_self()
    return x


async def alast_one_dies(folder: str, x: int, count: int) -> int:
    await asyncio.sleep(0.01)
    if _last(folder, count):
        await asyncio.sleep(0.3)
        calls.kill_self()
    return x


def closes_all(size: int) -> bytes:
    os.closerange(3, 256)
    return bytes(size)


async def acloses_all(size: int) -> bytes:
    os.closerange(3, 256)
    return bytes(size)
