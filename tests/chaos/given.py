"""How a call's input comes: plain, in an object, with a large buffer, or rigged."""

import os
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.chaos import tame, wild
from tests.chaos.kinds import SPACE, Kind, act
from tests.chaos.notes import LOADED, note
from tests.chaos.wild import Rigged, explode, kill_self

TABLE = (tame, wild)  # whoever imports this has all kinds
FORMS = {"plain": 60, "boxed": 30, "large": 8, "array": 2}


class Boxed:
    """An input that is pickled by itself, with something to compare."""

    def __init__(self, token: int, load: Any) -> None:
        self.token = token
        self.load = load


def run(given: Any, *rest: Any) -> Any:
    """What the workers run: its input is whole, or that is the error."""
    if type(given) is int:
        return act(given)
    assert rest in ((), (given.token,)), f"another's arguments: {rest}"
    load, number = given.load, given.token // SPACE
    if isinstance(load, bytes):
        assert load == number.to_bytes(4, "little") * (len(load) // 4), "another's input"
    elif load is not None:
        load += 1  # an input is the call's own
        assert (load == number + 1).all(), "another's input"
    return act(given.token)


async def run_async(given: Any, *rest: Any) -> Any:
    return run(given, *rest)


def functions(chance: random.Random) -> Callable[..., Any]:
    """The same function, as it may be given to a pool."""
    return chance.choice([run, run, run, partial(run), lambda *given: run(*given)])


def make(chance: random.Random, number: int, index: int, kind: Kind) -> Any:
    """The input for this call."""
    token = number * SPACE + index
    form = kind.form or chance.choices(list(FORMS), list(FORMS.values()))[0]
    match form:
        case "boxed":
            return Boxed(token, number.to_bytes(4, "little") * chance.randrange(100))
        case "large":
            return Boxed(token, number.to_bytes(4, "little") * chance.randrange(16_000, 40_000))
        case "array":
            import numpy as np

            return Boxed(token, np.full(20_000, number))
        case "bomb":
            return Boxed(token, Rigged(explode, number))
        case "death":
            return Boxed(token, [Rigged(note, LOADED, number), Rigged(kill_self, 0)])
        case "exit":
            return Boxed(token, [Rigged(note, LOADED, number), Rigged(os._exit, 6)])
        case "lock":
            return Boxed(token, threading.Lock())
    return token
