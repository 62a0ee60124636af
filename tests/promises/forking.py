"""Calls that fork among others."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from typing import Any

from tests.gate import Turnstile
from tests.promises.meetings import Meeting

HOWS = ["returns", "returns much", "exits", "exits 5", "exits -1", "exits with words", "raises"]


def _fork(how: str) -> Any:
    child = os.fork()
    if child == 0:
        print(how, end=".")
        match how:
            case "returns":
                return "child"
            case "returns much":
                return b"x" * 300_000
            case "exits":
                sys.exit()
            case "exits 5":
                sys.exit(5)
            case "exits -1":
                sys.exit(-1)
            case "exits with words":
                sys.exit("its words")
        raise ValueError("raised in the child")
    return child


def _status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forks(how: str) -> Any:
    time.sleep(0.001)
    child = _fork(how)
    return _status(child) if isinstance(child, int) else child


async def aforks(how: str) -> Any:
    await asyncio.sleep(0.001)
    child = _fork(how)
    return _status(child) if isinstance(child, int) else child


def naps_and_signs(notes: Meeting, x: int) -> int:
    time.sleep(0.02)
    notes.sign(x)
    time.sleep(0.02)
    return x


async def anaps_and_signs(notes: Meeting, x: int) -> int:
    await asyncio.sleep(0.02)
    notes.sign(x)
    await asyncio.sleep(0.02)
    return x


def forks_one_that_works(notes: Meeting) -> int:
    child = os.fork()
    if child == 0:
        time.sleep(0.2)
        thread = threading.Thread(target=notes.sign, args=("thread",))
        thread.start()
        thread.join()
        assert subprocess.check_output("sleep 0.1; echo said", shell=True) == b"said\n"
        notes.sign("child")
        os._exit(7)
    return _status(child)


async def forks_and_awaits(notes: Meeting) -> int:
    waiting = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.1, waiting.set_result, None)
    child = os.fork()
    if child == 0:
        await waiting
        notes.sign("it went on")
        os._exit(7)
    await asyncio.sleep(0.3)
    return _status(child)


def _leave(gate: Turnstile) -> int:
    child = os.fork()
    if child == 0:
        gate.pass_through()
        os._exit(0)
    return child


def forks_and_leaves_it(gate: Turnstile) -> int:
    return _leave(gate)


async def aforks_and_leaves_it(gate: Turnstile) -> int:
    return _leave(gate)


def _run_a_process() -> int | None:
    process = multiprocessing.get_context("fork").Process(target=sum, args=([1, 2],))
    process.start()
    process.join(20)
    while process.exitcode is None:  # another thread's start() has reaped it, and is about to write that down
        time.sleep(0.001)
    return process.exitcode


def _may_have_children() -> None:
    """Workers are daemons, and `multiprocessing` allows those none."""
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]


def runs_a_process(_: object) -> int | None:
    _may_have_children()
    return _run_a_process()


async def aruns_a_process(_: object) -> int | None:
    _may_have_children()
    return _run_a_process()
