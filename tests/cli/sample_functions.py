"""What the tests of `procoro map` let it run: named on its command line as a file or a module."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from tests.gate import Turnstile


def echo(value):
    return value


def double(value):
    return value * 2


async def double_later(value):
    await asyncio.sleep(0)
    return value * 2


nameless = lambda value: value  # noqa: E731 - that is the point


class Shouter:
    def __init__(self, mark):
        self.mark = mark

    def shout(self, text):
        return text.upper() + self.mark

    @staticmethod
    def whisper(text):
        return text.lower()


shouter = Shouter("!")


def odd_fails(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def takes_nothing():
    return None


def leaves(number):
    if number == 3:
        sys.exit("enough")
    return number


def unwritable(kind):
    return {"set": {"tags": {1, 2}}, "nan": [0.5, float("nan")], "key": {(1, 2): 3}, "fine": "fine"}[kind]


def talks(text):
    print(f"print of {text}")
    print(f"input said {sys.stdin.readline()!r}")
    return text


def dies_at_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def hangs_at_three(number):
    while number == 3:
        pass
    return number


def eats_at_three(number):
    eaten = []
    while number == 3:
        eaten.append(bytearray(8 << 20))
        time.sleep(0.01)  # memory is sampled
    return number


def fails_once(path):
    """The first attempt at each path fails."""
    try:
        Path(path).open("x").close()
    except FileExistsError:
        return "second attempt"
    raise ConnectionError("try again")


def stands_at_gate(line):
    """`FOLDER of a gate, a word`: stand there, then return the word."""
    folder, _, word = line.rpartition(" ")
    if folder:
        Turnstile(folder).pass_through()
    return word


def meet(number):
    """Return when the calls of 0 to 5 have begun, all of them: so they must run at once."""
    Path(f"here-{number}").touch()
    while not all(os.path.exists(f"here-{other}") for other in range(6)):
        time.sleep(0.01)
    return number


async def meet_later(number):
    Path(f"here-{number}").touch()
    while not all(os.path.exists(f"here-{other}") for other in range(6)):
        await asyncio.sleep(0.01)
    return number


def has_no_next(line):
    """Finds nothing for 3."""
    return next(number for number in range(6) if number == int(line) != 3)
