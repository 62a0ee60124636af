"""A gigabyte and more, right to the last byte, and given back afterwards."""

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from procoro import Pool
from procoro.kernel import resident
from tests.promises import calls
from tests.promises.looks import wait_until

GIB = 1 << 30
MIB = 1 << 20
LONG = 120.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(psutil.virtual_memory().total < 16 * GIB, reason="needs 16 GiB of memory"),
]


def marked(size: int) -> bytearray:
    """Zeros, which cost nothing until they are read, with a mark at both ends and where 2^31 and 2^32 lie."""
    data = bytearray(size)
    for place in places(size):
        data[place] = 1 + place % 251
    return data


def places(size: int) -> list[int]:
    return sorted({0, size // 2, min(1 << 31, size - 1), size - 1})


def is_right(data: Any, size: int) -> bool:
    """Are the marks there, and nothing else?"""
    view = np.frombuffer(data, np.uint8)
    marks = [1 + place % 251 for place in places(size)]
    found = [int(view[at]) for at in places(size)]
    return len(view) == size and found == marks and np.count_nonzero(view) == len(marks)


def make_bytes(size: int) -> bytes:
    return bytes(marked(size))


def make_array(size: int) -> Any:
    return np.frombuffer(marked(size), np.uint8)


def all_given_back(pids: list[int], before: list[int]) -> None:
    """Wait until each process holds about what it held."""
    gc.collect()
    wait_until(
        lambda: all(resident(pid) < held + 64 * MIB for pid, held in zip(pids, before, strict=True)),
        f"{pids} hold what they held",
    )


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        pool.apply(is_right, (b"\x01", 1))  # numpy is loaded
        yield pool


@pytest.mark.parametrize("make", [make_bytes, make_array])
def test_a_result_of_1_gib(pool: Pool, make: Callable[[int], Any]) -> None:
    pids = [os.getpid(), pool.apply(calls.pid)]
    before = list(map(resident, pids))
    result = pool.submit(make, GIB + 3)
    assert is_right(result.get(LONG), GIB + 3)
    del result
    all_given_back(pids, before)
    assert pool.apply(calls.pid) == pids[1]


def test_an_argument_over_2_gib(pool: Pool) -> None:
    """More than one `write` takes, and more than 31 bits count."""
    size = 2 * GIB + 12345
    pids = [os.getpid(), pool.apply(calls.pid)]
    before = list(map(resident, pids))
    assert pool.submit(is_right, np.frombuffer(marked(size), np.uint8), size).get(LONG)
    all_given_back(pids, before)
    assert pool.apply(calls.pid) == pids[1]
