"""The thread that turns the pools: what is posted to it, what it watches."""

import os
import time
from collections.abc import Iterator

import pytest

from procoro.crank import SOON, Crank
from procoro.sleeping import Flag
from tests.promises.looks import PATIENCE, wait_until

POSTS = 60
TRIES = 20


@pytest.fixture
def crank() -> Iterator[Crank]:
    crank = Crank.acquire()
    yield crank
    crank.post(crank.release)
    wait_until(lambda: not crank.thread.is_alive(), "its last user is gone")


class Rounds:
    """Counts its turns."""

    count = 0

    def turn(self) -> float | None:
        self.count += 1
        return None

    def abort(self, error: BaseException) -> None:
        raise error


def test_what_is_posted_soon_comes_in_its_order_though_nobody_is_woken_for_each(crank: Crank) -> None:
    rounds, called = Rounds(), list[int]()
    crank.post(lambda: crank.add(rounds))
    for first in range(0, TRIES * POSTS, POSTS):
        before = rounds.count
        for number in range(first, first + POSTS):
            post = crank.post if number % 10 == 9 else crank.post_soon
            post(lambda number=number: called.append(number))
            time.sleep(SOON / 10)  # in which it would wake each time
        wait_until(lambda last=number: last in called, "the last is called without a post behind it")
        assert called == list(range(first + POSTS))
        if rounds.count - before < POSTS // 2:  # not where something else keeps us from posting that fast
            return
    pytest.fail("it is woken each time")


def test_it_is_woken_for_the_first_of_them(crank: Crank) -> None:
    for _ in range(3):
        time.sleep(5 * SOON)  # so long that it does not doze any more
        called = Flag()
        crank.post_soon(called.set)
        assert called.wait(PATIENCE)


def test_what_came_before_is_not_told_to_who_has_the_number_now(crank: Crank) -> None:
    first, second, silent = os.pipe(), os.pipe(), os.pipe()
    called: list[str] = []

    def take(own: int, other: int) -> None:
        """The other one's turn would come in the same round."""
        called.append("taken")
        crank.unwatch(own)
        crank.unwatch(other)
        os.dup2(silent[0], other)
        crank.watch(other, lambda: called.append("misled"))

    def watch() -> None:
        crank.watch(first[0], lambda: take(first[0], second[0]))
        crank.watch(second[0], lambda: take(second[0], first[0]))
        os.write(first[1], b".")
        os.write(second[1], b".")

    crank.post(watch)
    done = Flag()
    crank.post(lambda: crank.call_later(0.01, done.set))
    assert done.wait(PATIENCE)
    assert called == ["taken"]
    ended = Flag()
    crank.post(lambda: [crank.unwatch(first[0]), crank.unwatch(second[0]), ended.set()])
    assert ended.wait(PATIENCE)
    for number in (*first, *second, *silent):
        os.close(number)


class Collecting:
    """A lock in whose midst an object is collected, whose end posts, and waits for that."""

    def __init__(self, crank: Crank) -> None:
        self.crank = crank
        self.waited: list[bool] = []

    def __enter__(self) -> None:
        if not self.waited:
            self.waited.append(False)
            called = Flag()
            self.crank.post(called.set)
            self.waited[0] = called.wait(PATIENCE)

    def __exit__(self, *error: object) -> None: ...


def test_who_is_woken_in_the_midst_of_being_woken(crank: Crank) -> None:
    time.sleep(5 * SOON)  # it sleeps
    lock, crank._wake_lock = crank._wake_lock, Collecting(crank)  # type: ignore[assignment]
    called = Flag()
    crank.post(called.set)
    assert called.wait(PATIENCE)
    assert crank._wake_lock.waited == [True]  # type: ignore[attr-defined]
    crank._wake_lock = lock


def test_what_is_watched_no_more_is_not_called_with_what_came_before(crank: Crank) -> None:
    pipes = [os.pipe() for _ in range(2)]
    called: list[int] = []

    def take(fd: int) -> None:
        called.append(fd)
        for end, _ in pipes:  # both: the other one's turn would come in the same round
            crank.unwatch(end)

    def watch() -> None:
        for end, other in pipes:
            crank.watch(end, lambda end=end: take(end))
            crank.watch(end, lambda end=end: take(end))  # once more is once
            os.write(other, b".")

    crank.post(watch)
    wait_until(lambda: bool(called), "one can be read")
    done: list[bool] = []
    crank.post(lambda: done.append(True))
    wait_until(lambda: bool(done), "a round later")
    assert len(called) == 1
    for pipe in pipes:
        os.close(pipe[0])
        os.close(pipe[1])
