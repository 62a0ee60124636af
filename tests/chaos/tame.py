"""Calls that harm nobody: they return, or they raise."""

import sys
import time
from typing import Any

from tests.chaos.kinds import good, is_named, kind, raises, returns, small

# ------------------------------------------------------------------------------------------------ values


@good(returns(small), 200)
def value(number: int) -> int:
    return small(number)


@good(returns(small), 60)
def computes(number: int) -> int:
    sum(range(number % 50_000))
    return small(number)


@good(returns(small), 30)
def naps(number: int) -> int:
    time.sleep(number % 8 / 400)
    return small(number)


@good(returns(lambda number: (number, ["x" * (number % 3000)])), 40)
def shared(number: int) -> Any:
    return number, ["x" * (number % 3000)]


@good(returns(lambda number: (number, number.to_bytes(4, "little") * (16_000 + number % 20_000))), 25)
def large(number: int) -> Any:
    return number, number.to_bytes(4, "little") * (16_000 + number % 20_000)


@good(returns(lambda number: (number, number.to_bytes(4, "little") * 1_200_000)), 1)
def huge(number: int) -> Any:
    return number, number.to_bytes(4, "little") * 1_200_000


def _is_array(number: int, ok: bool, outcome: Any) -> bool:
    return ok and outcome[0] == number and outcome[1].shape == (30_000,) and bool((outcome[1] == number).all())


@good(_is_array, 3)
def array(number: int) -> Any:
    import numpy as np

    return number, np.full(30_000, number)


@good(returns(small), 15)
def prints(number: int) -> int:
    print(f"[{number}]", end="")
    return small(number)


# ------------------------------------------------------------------------------------------------ errors


class Own(Exception):
    """Travels as it is."""


class Beyond(BaseException):
    """No Exception."""


class Odd(Exception):
    """Cannot be rebuilt: its __init__ wants more than it hands on."""

    def __init__(self, number: int, words: str) -> None:
        super().__init__(f"{words} {number}")


class Leaves(Exception):
    """Whoever rebuilds it is asked to exit."""

    def __reduce__(self) -> Any:
        return sys.exit, ("an exception was rebuilt",)


class Shy(Exception):
    """Whoever wants to read it is asked to exit."""

    def __str__(self) -> str:
        raise SystemExit("an exception was read")


@kind(raises("Own"), 30)
def raises_own(number: int) -> None:
    raise Own(number)


@kind(lambda number, ok, error: is_named(ok, error, "Odd") and str(number) in str(error), 10)
def raises_odd(number: int) -> None:
    raise Odd(number, "odd")


@kind(lambda number, ok, error: raises("LookupError")(number, ok, error) and error.__cause__.args == (number,), 10)
def raises_from_another(number: int) -> None:
    try:
        raise KeyError(number)
    except KeyError as error:
        raise LookupError("outer", number) from error


@kind(raises("Own", lambda error: error.__notes__[0]), 10)
def raises_with_notes(number: int) -> None:
    error = Own("see the note")
    error.add_note(f"of {number}")
    raise error


@kind(raises("ExceptionGroup", lambda error: error.exceptions[1].args), 10)  # type: ignore[attr-defined]
def raises_a_group(number: int) -> None:
    raise ExceptionGroup("many", [ValueError("one"), Own(number)])


@kind(raises("Own", lambda error: (error.args[0], len(error.args[1]) == 200_000 or "cut")), 4)
def raises_a_large_one(number: int) -> None:
    raise Own(number, "x" * 200_000)


@kind(raises("KeyboardInterrupt"), 6)
def interrupts(number: int) -> None:
    raise KeyboardInterrupt(number)


@kind(raises("SystemExit"), 6)
def leaves(number: int) -> None:
    sys.exit(f"of {number}")


@kind(raises("Beyond"), 6)
def raises_beyond(number: int) -> None:
    raise Beyond(number)


@kind(raises("CancelledError"), 4)
def raises_cancelled(number: int) -> None:
    from concurrent.futures import CancelledError

    raise CancelledError(number)


@kind(lambda number, ok, error: is_named(ok, error, "Leaves"), 4)
def raises_what_exits_when_rebuilt(number: int) -> None:
    raise Leaves(number)


@kind(lambda number, ok, error: is_named(ok, error, "Shy"), 4)
def raises_what_exits_when_read(number: int) -> None:
    raise Shy(number)
