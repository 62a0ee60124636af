"""A call runs its function as it was at the call; and what was handed in is not kept."""

import functools
import gc
import os
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from procoro import Pool
from tests.promises import calls
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE, wait_until, workers


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


class Adder:
    """A callable with a state."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, x: int) -> int:
        return self.n + x

    def method(self, x: int) -> int:
        return self.n + x


def closures() -> tuple[Callable[[int], int], Callable[[int], None]]:
    n = 0

    def add(x: int) -> int:
        return n + x

    def become(value: int) -> None:
        nonlocal n
        n = value

    return add, become


def each_way(pool: Pool, function: Callable[[int], int]) -> list[int]:
    found = [pool.submit(function, 1).get(PATIENCE) for _ in range(3)]
    found += pool.map(function, [1]) + list(pool.imap(function, iter([1])))
    return [*found, pool.apply(function, (1,)), pool.submit(function, 1).get(PATIENCE)]


def test_an_object_that_changes(pool: Pool) -> None:
    adder = Adder()
    bound = adder.method
    for n in (0, 5, 7, 5):
        adder.n = n
        assert each_way(pool, adder) == each_way(pool, bound) == [n + 1] * 7


def test_a_closure_that_changes(pool: Pool) -> None:
    add, become = closures()
    for n in (0, 5, 7, 5):
        become(n)
        assert each_way(pool, add) == [n + 1] * 7


LIMITS = [1]
LEAST = 0


def test_a_closure_over_what_changes_in_place(pool: Pool) -> None:
    global LEAST
    values, table = [1], {"a": 1}

    def count(x: int, more: list[int] = []) -> int:  # noqa: B006
        return x + len(values) + table["a"] + len(more)

    def count_globals(x: int) -> int:
        return x + sum(limit for limit in LIMITS if limit > LEAST)

    def look() -> int:
        return look.held  # type: ignore[attr-defined,no-any-return]

    for n in range(1, 4):
        look.held = n  # type: ignore[attr-defined]
        assert each_way(pool, count) == [1 + len(values) + table["a"] + len(count.__defaults__[0])] * 7  # type: ignore[index]
        assert each_way(pool, count_globals) == [count_globals(1)] * 7
        assert [pool.submit(look).get(PATIENCE) for _ in range(3)] == [n] * 3
        values.append(n)
        table["a"] += 10
        count.__defaults__[0].append(n)  # type: ignore[index]
        LIMITS.append(n)
        LEAST = n - 1


def test_a_closure_that_calls_itself_is_not_kept(pool: Pool) -> None:
    def use_one() -> weakref.ref[Any]:
        def down(x: int) -> int:
            return 0 if x == 0 else 1 + down(x - 1)

        assert each_way(pool, down) == [1] * 7
        return weakref.ref(down)

    seen = use_one()
    wait_until(lambda: gc.collect() is not None and seen() is None, "nothing refers to it")


def test_a_partial_whose_argument_changes(pool: Pool) -> None:
    values = [1]
    count = functools.partial(lambda given, x: len(given) + x, values)
    for _ in range(3):
        assert each_way(pool, count) == [len(values) + 1] * 7
        values.append(1)


def test_defaults_that_change(pool: Pool) -> None:
    def add(x: int, n: int = 0) -> int:
        return x + n

    assert each_way(pool, add) == [1] * 7
    add.__defaults__ = (5,)
    assert each_way(pool, add) == [6] * 7
    add.__code__ = (lambda x, n=0: x * 100).__code__
    assert each_way(pool, add) == [100] * 7


def test_a_script_whose_objects_change(script: Script) -> None:
    said = script("""
        import functools
        from procoro import Pool

        class Adder:
            n = 0
            def __call__(self, x):
                return self.n + x

        def plain(x):
            return N + x

        def closure():
            k = N
            return lambda x: k + x

        N = 0
        adder = Adder()
        with Pool(1) as pool:
            for N in (0, 5, 7):
                adder.n = N
                same = closure()
                functions = [adder, adder.__call__, plain, same, same, closure(), functools.partial(plain)]
                found = [pool.submit(f, 1).get() for f in functions for _ in range(2)]
                found += [y for f in functions for y in pool.map(f, [1])]
                print(set(found))
    """)
    assert said.split() == ["{1}", "{6}", "{8}"]


def test_a_script_whose_function_is_submitted_again_and_again(script: Script) -> None:
    """It is not packed each time; but what it needs is looked at."""
    assert script(
        """
        from procoro import Pool

        factor, seen = 2, [1]

        def helper(x):
            return x * factor

        def f(x):
            return helper(x), list(seen)

        with Pool(1) as pool:
            print([pool.submit(f, 1).get() for _ in range(3)])
            factor = 3
            print(pool.submit(f, 1).get())
            seen = [2]
            print(pool.submit(f, 1).get())
            seen.append(3)
            print(pool.submit(f, 1).get(), pool.map(f, [1]), pool.submit(f, 1).get())

            def helper(x):
                return -x

            print(pool.submit(f, 1).get())
            old = f

            def f(x):
                return "new"

            print(pool.submit(old, 1).get(), pool.submit(f, 1).get())
        """
    ).splitlines() == [
        "[(2, [1]), (2, [1]), (2, [1])]",
        "(3, [1])",
        "(3, [2])",
        "(3, [2]) [(3, [2, 3])] (3, [2, 3])",
        "(-1, [2, 3])",
        "(-1, [2, 3]) new",
    ]


@pytest.mark.parametrize("kind", ["a method", "a partial", "a closure", "an object"])
def test_what_was_submitted_is_not_kept(pool: Pool, kind: str) -> None:
    tagged = calls.Tagged(1)
    seen = weakref.ref(tagged)
    submitted: Callable[[], Any] = {
        "a method": tagged.tag,
        "a partial": functools.partial(calls.Tagged.tag, tagged),
        "a closure": lambda tagged=tagged: tagged.tag_,
        "an object": functools.partial(tagged.tag),
    }[kind]
    for _ in range(3):
        assert pool.submit(submitted).get(PATIENCE) == 1
    del tagged, submitted
    wait_until(lambda: gc.collect() is not None and seen() is None, "nothing refers to it")


@pytest.mark.parametrize("kind", ["partials", "closures"])
@pytest.mark.parametrize("way", ["submit", "map"])
def test_functions_that_come_once_leave_no_memory_behind(pool: Pool, kind: str, way: str) -> None:
    def big(x: bytes) -> Callable[[], int]:
        return functools.partial(length, x) if kind == "partials" else lambda *_: len(x)

    def run(i: int) -> None:
        function = big(bytes([i]) * 2**20)
        for _ in range(2):
            assert (pool.submit(function, 1).get(PATIENCE) if way == "submit" else pool.map(function, [1])[0]) == 2**20

    def held() -> int:
        (pid,) = workers()
        library = os.stat(f"/proc/self/fd/{pool._conductor.library.fd}").st_blocks * 512
        return library + psutil.Process(pid).memory_info().rss + psutil.Process().memory_info().rss

    for i in range(5):
        run(i)
    before = held()
    for i in range(100):
        run(i)
    assert held() < before + 30 * 2**20, "200 MiB went through"


def length(x: bytes, *_: object) -> int:
    return len(x)


def test_a_global_that_comes_later_is_seen(script: Script) -> None:
    said = script(
        """
        from procoro import Pool

        def function():
            return LATER

        with Pool(1) as pool:
            print([type(pool.submit(function).exception()).__name__ for _ in range(3)])
            LATER = 2
            print(pool.submit(function).get())
        """
    )
    assert said == "['NameError', 'NameError', 'NameError']\n2\n"


def made() -> Callable[[], int]:
    def closure(*, number: int = 1) -> int:
        return number

    return closure


def test_keyword_defaults_of_a_closure_are_those_of_now() -> None:
    closure = made()
    with Pool(1) as pool:
        assert [pool.submit(closure).get() for _ in range(3)] == [1, 1, 1]
        closure.__kwdefaults__ = {"number": 2}
        assert pool.submit(closure).get() == 2
