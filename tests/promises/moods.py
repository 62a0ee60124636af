"""Calls in a bad mood: that stay, that will not end, that raise; each for asyncio, too."""

import asyncio
import os
import socket
import time
from pathlib import Path

from tests.promises.meetings import Meeting


def stay(meeting: Meeting, notes: Meeting, who: object = "") -> object:
    """Wait; and write down how that ended."""
    try:
        meeting.come(who)
    except BaseException as error:
        notes.sign(f"{who} {type(error).__name__}")
        raise
    finally:
        notes.sign(f"{who} finally")
    return who


async def astay(meeting: Meeting, notes: Meeting, who: object = "") -> object:
    try:
        await meeting.acome(who)
    except BaseException as error:
        notes.sign(f"{who} {type(error).__name__}")
        raise
    finally:
        notes.sign(f"{who} finally")
    return who


def stay_with(given: tuple[Meeting, Meeting, object]) -> object:
    return stay(*given)


async def astay_with(given: tuple[Meeting, Meeting, object]) -> object:
    return await astay(*given)


def linger(meeting: Meeting, who: object = "") -> None:
    """Wait, whoever asks it to end."""
    while not meeting.is_over():
        try:
            meeting.come(who)
        except BaseException:
            meeting.sign("lingers")


async def alinger(meeting: Meeting, who: object = "") -> None:
    while not meeting.is_over():
        try:
            await meeting.acome(who)
        except BaseException:
            meeting.sign("lingers")


def spin(*_: object) -> None:
    """A loop in C that lets nobody in."""
    sum(range(10**11))


async def aspin(*_: object) -> None:
    sum(range(10**11))


def turn(*_: object) -> None:
    """A loop that lets nobody in, but for other threads."""
    while True:
        pass


async def aturn(*_: object) -> None:
    while True:
        pass


def raise_it(error: BaseException) -> None:
    time.sleep(0)
    raise error


async def araise_it(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


def returns_all_the_same(meeting: Meeting) -> str:
    try:
        meeting.come()
    except BaseException:
        return "value"
    return "it was not asked"


async def areturns_all_the_same(meeting: Meeting) -> str:
    try:
        await meeting.acome()
    except BaseException:
        return "value"
    return "it was not asked"


def raises_all_the_same(meeting: Meeting) -> None:
    try:
        meeting.come()
    finally:
        raise ValueError("on the way out")


async def araises_all_the_same(meeting: Meeting) -> None:
    try:
        await meeting.acome()
    finally:
        raise ValueError("on the way out")


def signs(notes: Meeting, x: int) -> int:
    notes.sign(x)
    return x


async def asigns(notes: Meeting, x: int) -> int:
    notes.sign(x)
    return x


def reads_for_ever(notes: Meeting) -> bytes:
    here, there = socket.socketpair()
    try:
        notes.sign("reads")
        return here.recv(10)
    finally:
        here.close()
        there.close()
        notes.sign("closed")


async def areads_for_ever(notes: Meeting) -> bytes:
    here, there = socket.socketpair()
    here.setblocking(False)
    try:
        notes.sign("reads")
        return await asyncio.get_running_loop().sock_recv(here, 10)
    finally:
        here.close()
        there.close()
        notes.sign("closed")


class Mine(BaseException):
    """Of no family that anybody catches."""


def holds_a_socket(seconds: float) -> float:
    with socket.socket():
        time.sleep(seconds)
    return seconds


async def aholds_a_socket(seconds: float) -> float:
    with socket.socket():
        await asyncio.sleep(seconds)
    return seconds


def initializer_that_dies_once(path: str) -> None:
    if not os.path.exists(path):
        Path(path).touch()
        os._exit(3)
