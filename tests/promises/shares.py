"""What workers do with locks, queues and pipes that they are sent. Apart from the tests: a worker imports no pytest."""

import gc
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.gate import Turnstile


def belongings() -> tuple[int, int]:
    """How many descriptors and how many pieces of shared memory this process has."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text().splitlines()
    return len(os.listdir("/proc/self/fd")), sum("memfd:" in line for line in maps)


def hold(lock: Any, gate: Turnstile) -> None:
    """Hold it for as long as one stands at the gate."""
    with lock:
        gate.pass_through()


def take(lock: Any) -> bool:
    """Is it free? It is not kept."""
    if lock.acquire(False):
        lock.release()
        return True
    return False


def count(lock: Any, path: str, times: int) -> None:
    """Add to the number in a file, a byte at a time: under a lock that lets two in, some are lost."""
    with open(path, "r+b", buffering=0) as file:
        for _ in range(times):
            with lock:
                number = int.from_bytes(os.pread(file.fileno(), 8, 0))
                os.pwrite(file.fileno(), (number + 1).to_bytes(8), 0)


def take_nested(value: dict[str, Any]) -> tuple[bool, bool]:
    """Is what lies deep in it one lock, and is it free?"""
    first, (second,) = value["locks"]["first"], value["locks"]["more"]
    return first is second, take(first)


def put_all(queue: Any, items: Iterable[Any]) -> int:
    for item in items:
        queue.put(item)
    return os.getpid()


def get_all(queue: Any, count: int) -> list[Any]:
    return [queue.get() for _ in range(count)]


def echo(connection: Any) -> Any:
    """Send back what comes, once."""
    item = connection.recv()
    connection.send((os.getpid(), item))
    return item


def send_on(connection: Any, item: Any) -> None:
    """Until it raises."""
    while True:
        connection.send(item)


kept: Any = None


def keep(value: Any) -> None:
    """Called as an initializer."""
    global kept
    kept = value


async def akeep(value: Any) -> None:
    keep(value)


def kept_is_free() -> bool:
    return take(kept["lock"])


async def akept_is_free() -> bool:
    return take(kept["lock"])


def put_into_kept(item: int) -> int:
    with kept["lock"]:
        kept["more"][0].put(item)
    return item


def use_kept() -> tuple[int, int]:
    return len(kept["large"]), kept["function"]()


def number_and_lock(lock: Any, number: int) -> int:
    with lock:
        return number


def close_and_wait(connection: Any, event: Any) -> None:
    """Close an end, and live on."""
    connection.send("closing")
    connection.close()
    event.wait()


def send_and_die(connection: Any) -> None:
    connection.send(1)
    os._exit(1)


def wait_long() -> None:
    time.sleep(60)


def fail_or_take(given: tuple[Any, bool]) -> bool:
    lock, fails = given
    if fails:
        raise LookupError("told to")
    with lock:
        return True


def take_each(locks: list[Any], number: int) -> None:
    for lock in locks:
        with lock:
            pass
    if number % 7 == 0:
        raise LookupError("told to")


class Attributes(dict[str, Any]):
    __getattr__ = dict.__getitem__


class Answers:
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return lambda: name
