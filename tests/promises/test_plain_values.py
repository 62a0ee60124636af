"""Ints, floats and strings come back as they were returned, in whatever company: the record holds them unpickled."""

import enum
import random
from collections.abc import Iterator
from typing import Any

import pytest

from procoro import Pool


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
