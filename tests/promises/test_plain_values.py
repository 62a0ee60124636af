"""Ints, floats and strings come back as they were returned, in whatever company: the record holds them unpickled."""

import builtins
import enum
import functools
import os
import random
import resource
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from procoro import Pool
from tests.promises.looks import PATIENCE


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    """A string, but not only that."""


class Metres(float):
    """A float, but not only that."""


INTS = [0, 1, -1, 255, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63)]
LARGE_INTS = [1 << 63, -(1 << 63) - 1, 1 << 64, 1 << 4000]
FLOATS = [0.0, -0.0, 1.5, -1e308, 5e-324, float("inf"), float("-inf"), float("nan")]
TEXTS = ["", "a", "\u00e9\U0001f600", "x" * 70, "y\n" * 3000]
ODD_TEXTS = ["\0", "a\0b", "\0\0", "\ud800", "z" * 100_000, Name("ann")]
OTHERS = [True, False, None, b"1", (1,), Colour.RED, Metres(1.5), 1j]

COMPANIES = [[INTS], [FLOATS], [TEXTS], [INTS, LARGE_INTS], [INTS, FLOATS], [TEXTS, ODD_TEXTS], [INTS, TEXTS]]
COMPANIES += [[plain, OTHERS] for plain in (INTS, FLOATS, TEXTS)]


def give(x: Any) -> Any:
    if isinstance(x, tuple) and x[:1] == ("raise",):
        raise ValueError(x)
    return x


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool


def seen(value: Any) -> tuple[type, str]:
    return type(value), repr(value)


@pytest.mark.parametrize("seed", range(20))
def test_in_any_company(pool: Pool, seed: int) -> None:
    dice = random.Random(seed)
    values: list[Any] = []
    while len(values) < 3000:
        kinds = dice.choice(COMPANIES)
        values += [dice.choice(dice.choice(kinds)) for _ in range(dice.choice((1, 10, 500)))]
    expected = list(map(seen, values))
    assert list(map(seen, pool.map(give, values, chunksize=dice.choice((1, 100, 1000))))) == expected
    assert list(map(seen, pool.imap(give, values))) == expected
    assert [seen(result.get()) for result in [pool.submit(give, value) for value in values[:300]]] == expected[:300]


def test_around_failures(pool: Pool) -> None:
    values: list[Any] = [i if i % 7 else ("raise", i) for i in range(1, 300)]
    stream = pool.imap(give, values, chunksize=100)
    for value in values:
        if isinstance(value, tuple):
            with pytest.raises(ValueError, match=str(value[1])):
                next(stream)
        else:
            assert next(stream) == value


def a_large_text_without_room_for_a_copy(size: int) -> str:
    text = "x" * size
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + size // 2, resource.RLIM_INFINITY))
    return text


def test_a_large_text_that_cannot_be_copied_fails_its_call_alone() -> None:
    with Pool(1) as pool:
        pid = pool.apply(os.getpid)
        error = pool.submit(a_large_text_without_room_for_a_copy, 200 << 20).exception(PATIENCE)
        assert isinstance(error, MemoryError)
        assert pool.apply(os.getpid) == pid


def text_after_a_patch(text: str) -> str:
    builtins.str = type("str", (str,), {})  # type: ignore[misc]
    return text


def test_a_call_that_patches_what_a_string_is() -> None:
    with Pool(1) as pool:
        assert pool.map(text_after_a_patch, ["a", "b"]) == ["a", "b"]


def in_hand(first: Any, at: int) -> Any:
    """What the call finds of the others' exceptions."""
    if at == 1:
        raise KeyError("of call 1")
    if at == 2:
        try:
            raise  # noqa: PLE0704  there is nothing to raise again
        except RuntimeError:
            return "nothing is handled"
    if at == 3:
        raise ValueError("of call 3")
    return repr(sys.exc_info()[1]) if at else first


@pytest.mark.parametrize("first", [7, 1.5, "text", None])
def test_a_call_that_raises_is_over_when_the_next_one_begins(pool: Pool, first: Any) -> None:
    stream = pool.imap(functools.partial(in_hand, first), range(5), chunksize=5)
    assert next(stream) == first
    with pytest.raises(KeyError):
        next(stream)
    assert next(stream) == "nothing is handled"
    with pytest.raises(ValueError, match="of call 3") as raised:
        next(stream)
    assert raised.value.__context__ is None
    assert next(stream) == "None"


def long_then_size(at: int) -> Any:
    if not at:
        return "x" * 30_000_000
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_a_long_text_is_kept_no_longer_than_its_call() -> None:
    with Pool(1) as pool:
        pool.map(str, range(3000))
        before = pool.apply(long_then_size, (1,))
        after = pool.map(long_then_size, range(4), chunksize=4)[1:]
    assert max(after) < before + 15_000_000
