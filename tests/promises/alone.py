"""What processes of their own run. Apart from the tests, so that they import no pytest."""

import asyncio
import atexit
import os
import select
import signal
import socket
import sys
import threading
import time
from typing import Any

from procoro import Pool, Process, active_children, current_process, parent_process
from tests.gate import Turnstile
from tests.promises import calls

lock = threading.Lock()


class Doubles(Process):
    """Has a state of its own, and says who it is."""

    def __init__(self, number: int) -> None:
        super().__init__(name="doubles")
        self.number = number

    def run(self) -> Any:
        self.number *= 2
        return self.number, current_process() is self, self.pid == os.getpid(), self.is_alive(), self.name


class Later(Process):
    async def run(self) -> str:  # type: ignore[override]
        await asyncio.sleep(0)
        return self.name


def who() -> dict[str, Any]:
    own, parent = current_process(), parent_process()
    assert parent is not None
    return {
        "name": own.name,
        "pid": own.pid == own.ident == os.getpid(),
        "daemon": own.daemon,
        "authkey": bytes(own.authkey),
        "alive": own.is_alive(),
        "children": active_children(),
        "parent": parent.name,
        "parent_pid": parent.pid,
        "parent_lives": parent.is_alive(),
        "parent_joined": parent.join(0),
    }


def values_of(function: Any, *args: Any, daemon: bool | None = None) -> Any:
    """What another process makes of it."""
    process = Process(target=function, args=args, daemon=daemon)
    process.start()
    return process.result(20), process.name


def in_a_pool(numbers: list[int]) -> list[int]:
    with Pool(2) as pool:
        return pool.map(calls.double, numbers)


def leave(code: Any) -> None:
    sys.exit(code)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def signals() -> tuple[Any, Any]:
    return signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT) is signal.default_int_handler


def interrupt_self() -> str:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        return "interrupted"
    return "slept"


def fork_and_return() -> int:
    os.fork()
    return os.getpid()


def thread_outlives(gate: Turnstile, path: str) -> str:
    def last() -> None:
        gate.pass_through()
        calls.touch(path)

    threading.Thread(target=last).start()
    return "returned"


def close_all(path: str) -> int:
    """What others have said on sockets that took the numbers of those that were closed, is written at the end."""
    os.closerange(3, 256)
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(20)]

    def write() -> None:
        heard = select.select([end for pair in pairs for end in pair], [], [], 0)[0]
        with open(path, "w") as file:
            file.write(str(len(heard)))

    atexit.register(write)
    return 1


def log(words: str) -> None:
    import logging

    logging.getLogger("alone").warning(words)


def take_lock() -> bool:
    return lock.acquire(blocking=False)
