"""The table of what a call may do, and how it may end by itself: filled by `tame.py` and `wild.py`.

Workers import them, again after each death: they must load fast. How a call comes is in `given.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.chaos.notes import START, note

SPACE = 128  # a call's token: its number * SPACE + its kind

Check = Callable[[int, bool, Any], bool]  # the call's number, has it returned, its value or exception
TIMEOUT, MEMORY = "timeout", "memory"  # what a call needs, to come to an end
LIMIT = 1.2  # seconds: the timeout of those that have one


class Kind(NamedTuple):
    """One behaviour."""

    name: str
    act: Callable[[int], Any]  # in the worker, with the call's number
    may_end: Check
    weight: int
    codes: tuple[int, ...] = ()  # the exit codes with which it may end its worker
    needs: str = ""
    form: str = ""  # how its input comes; empty: in any way
    good: bool = False  # it returns, unless somebody kills its worker


KINDS: list[Kind] = []


def kind(
    may_end: Check, weight: int, codes: tuple[int, ...] = (), needs: str = "", form: str = "", good: bool = False
) -> Callable[[Callable[[int], Any]], Callable[[int], Any]]:
    """Enter a function into the table."""

    def enter(act: Callable[[int], Any]) -> Callable[[int], Any]:
        KINDS.append(Kind(act.__name__, act, may_end, weight, codes, needs, form, good))
        return act

    return enter


def good(may_end: Check, weight: int) -> Callable[[Callable[[int], Any]], Callable[[int], Any]]:
    """Likewise, for one that returns."""
    return kind(may_end, weight, good=True)


def act(token: int) -> Any:
    """Note that the call begins, and do what its kind does."""
    number, index = divmod(token, SPACE)
    note(START, number)
    return KINDS[index].act(number)


def returns(value: Callable[[int], Any]) -> Check:
    return lambda number, ok, outcome: ok and bool(outcome == value(number))


def raises(name: str, says: Callable[[BaseException], Any] = lambda error: error.args) -> Check:
    """By name: a subclass will not do. What the error says must contain the call's number."""
    return lambda number, ok, outcome: not ok and type(outcome).__name__ == name and str(number) in str(says(outcome))


def never(number: int, ok: bool, outcome: Any) -> bool:
    return False


def is_named(ok: bool, error: Any, name: str) -> bool:
    """It came as itself, or as a RemoteError that has its name."""
    return not ok and (type(error).__name__ == name or (type(error).__name__ == "RemoteError" and name in str(error)))


def small(number: int) -> int:
    """What a call returns that returns a number."""
    return number * 7 + 3


PACKET = ("naps", "ends_at_its_timeout", "naps", "naps", "naps")  # these travel together


def number_of(value: Any) -> int:
    """The number of the call that returned this."""
    return (value - 3) // 7 if type(value) is int else value[0]


def innocent() -> list[Kind]:
    """Those that harm nobody and are not slow."""
    return [one for one in KINDS if one.name in ("value", "computes", "naps", "shared", "large", "prints")]
