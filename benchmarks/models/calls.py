"""What is called. Each gives back something that can be checked."""

import asyncio
import time
from urllib.request import urlopen

BODY = b"hello"  # of every answer of the server
WAIT = 0.02  # seconds, of the server


def sleep_50_ms(number: int) -> int:
    time.sleep(0.05)
    return number


async def sleep_20_ms(number: int) -> int:
    await asyncio.sleep(0.02)
    return number


def fetch(url: str) -> bytes:
    with urlopen(url) as answer:
        body: bytes = answer.read()
    return body


def noop(number: int) -> int:
    return number


def wait(seconds: float) -> tuple[float, float]:
    """From when to when it waited, by the machine's clock."""
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


async def await_(seconds: float) -> tuple[float, float]:
    """As `wait`."""
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return began, time.monotonic()
