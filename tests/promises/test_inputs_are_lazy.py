"""Promise 5: inputs are pulled as they are needed, within bounds; and what becomes of those who pull and take."""

import functools
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import PoolClosed
from tests.gate import Gate
from tests.promises import calls
from tests.promises.looks import PATIENCE, outcomes, wait_until

ITEMS = 4096
BYTES = 16 << 20


class Inputs:
    """A generator that counts what is pulled from it, and knows when it was closed."""

    def __init__(self, values: Any = None, fails_at: int | None = None) -> None:
        self.values = itertools.count() if values is None else values
        self.pulled = 0
        self.fails_at = fails_at
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[Any]:
        try:
            for value in self.values:
                if self.pulled == self.fails_at:
                    raise ValueError("input")
                self.pulled += 1
                yield value
        finally:
            self.closed.set()

    def rest(self) -> int:
        """How many have been pulled when no more are: twice the same, a while apart."""
        last = -1
        while last != self.pulled:
            last = self.pulled
            threading.Event().wait(0.15)
        return last


@pytest.mark.parametrize("unordered", [False, True])
def test_a_consumer_that_waits_is_not_overrun(unordered: bool) -> None:
    inputs = Inputs()
    with Pool(2) as pool:
        stream = (pool.imap_unordered if unordered else pool.imap)(calls.double, iter(inputs))
        for _ in range(20_000):
            next(stream)
        assert inputs.rest() - 20_000 <= ITEMS
        for _ in range(ITEMS):
            next(stream)
    assert inputs.closed.wait(PATIENCE)


def begun(path: Path) -> int:
    """How many calls of `mark` have begun when no more do."""
    last = -1
    while last != path.stat().st_size:
        last = path.stat().st_size
        threading.Event().wait(0.15)
    return last


def mark(path: Path, number: int) -> int:
    with path.open("ab", buffering=0) as file:
        file.write(b".")
    return number


def test_of_a_range_no_more_is_run_ahead_of_who_is_slow(tmp_path: Path) -> None:
    path = tmp_path / "begun"
    path.touch()
    with Pool(2) as pool:
        stream = pool.imap(functools.partial(mark, path), range(100_000))
        for taken in range(1, 4):
            next(stream)
            assert taken < begun(path) <= taken + ITEMS
        for _ in range(taken, 20_000):  # as fast as they come
            next(stream)
        assert begun(path) <= 20_000 + 4 * ITEMS


def test_never_are_more_ahead_than_allowed() -> None:
    inputs = Inputs(range(100_000))
    with Pool(2) as pool:
        most = 0
        for at, value in enumerate(pool.imap(calls.double, iter(inputs))):
            assert value == 2 * at
            most = max(most, inputs.pulled - at)
    assert 0 < most <= ITEMS


def test_bytes_that_wait_for_a_worker_are_bounded(gate: Gate) -> None:
    inputs = Inputs(bytes(1 << 20) for _ in range(200))
    with Pool(2) as pool:
        stream = pool.imap(functools.partial(calls.stand, gate), iter(inputs))
        gate.reached()
        assert inputs.rest() << 20 <= BYTES + (2 << 20)
        gate.close()
        assert [len(one) for one in stream] == [1 << 20] * 200


def test_results_count_as_well() -> None:
    inputs = Inputs(itertools.repeat(1))
    with Pool(2) as pool:
        stream = pool.imap(calls.big, iter(inputs))
        assert [len(next(stream)) for _ in range(30)] == [1 << 20] * 30
        assert (inputs.rest() - 30) << 20 <= 2 * BYTES


def small_then_large(written: str, first_large: int, number: int) -> bytes:
    if number < first_large:
        return b""
    with open(written, "ab", buffering=0) as file:
        file.write(b".")
    return bytes(200_000)


@pytest.mark.parametrize("kind", [range, lambda stop: iter(range(stop))], ids=["range", "generator"])
def test_results_that_have_become_large_are_made_as_they_are_taken(kind: Any, tmp_path: Path) -> None:
    written, first_large, more = tmp_path / "written", 20_000, 5_000
    written.touch()
    call = functools.partial(small_then_large, str(written), first_large)
    with Pool(2) as pool:
        stream = pool.imap(call, kind(first_large + more))
        assert sum(len(next(stream)) for _ in range(first_large)) == 0
        made = [-1]
        while made[-1] != (size := written.stat().st_size):
            made.append(size)
            threading.Event().wait(0.2)
        assert made[-1] < more // 2  # not thousands, a gigabyte, as were under way
        assert [len(value) for value in stream] == [200_000] * more
    assert written.stat().st_size == more


def test_one_huge_item_at_a_time_is_let_in(gate: Gate) -> None:
    inputs = Inputs(bytes(20 << 20) for _ in range(4))
    with Pool(2) as pool:
        stream = pool.imap(functools.partial(calls.stand, gate), iter(inputs))
        gate.reached()
        assert inputs.rest() <= 2
        gate.close()
        assert [len(one) for one in stream] == [20 << 20] * 4


def test_several_streams_share_the_bound() -> None:
    with Pool(2) as pool:
        all_inputs = [Inputs() for _ in range(4)]
        streams = [pool.imap(calls.double, iter(inputs)) for inputs in all_inputs]
        assert [[next(stream) for stream in streams] for _ in range(3)] == [[2 * i] * 4 for i in range(3)]
        assert sum(inputs.rest() for inputs in all_inputs) <= ITEMS + 4 * 4 + 12
        del streams


@pytest.mark.parametrize("fails_at", [0, 1, 7, 3000])
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_inputs_that_raise_midway(method: str, fails_at: int) -> None:
    inputs = Inputs(fails_at=fails_at)
    with Pool(2) as pool:
        stream = getattr(pool, method)(calls.double, iter(inputs))
        found = outcomes(stream, fails_at)
        assert sorted(found) == [2 * i for i in range(fails_at)]
        with pytest.raises(ValueError, match=r"^input$"):
            next(stream)
        for _ in range(2):
            with pytest.raises(StopIteration):
                next(stream)
        assert pool.map(calls.double, [1, 2]) == [2, 4]


@pytest.mark.parametrize("call", ["map", "map_async", "starmap"])
def test_a_map_whose_inputs_raise_raises_that(call: str) -> None:
    with Pool(1) as pool:
        with pytest.raises(ValueError, match=r"^input$"):
            getattr(pool, call)(calls.add, iter(Inputs(itertools.repeat((1, 2)), fails_at=3)))
        assert pool.map(calls.double, [1, 2]) == [2, 4]


def test_an_iterable_whose_iter_raises() -> None:
    class Bad:
        def __iter__(self) -> Iterator[int]:
            raise ValueError("iter")

    with Pool(1) as pool:
        with pytest.raises(ValueError, match=r"^iter$"):
            list(pool.imap(calls.double, Bad()))
        assert pool.map(calls.double, [1, 2]) == [2, 4]


def test_a_consumer_that_breaks_leaves_the_pool_usable() -> None:
    inputs = Inputs(range(50_000))
    with Pool(2) as pool:
        for value in pool.imap(calls.double, iter(inputs)):
            if value == 200:
                break
        assert pool.map(calls.double, range(10)) == [2 * i for i in range(10)]
    assert inputs.closed.wait(PATIENCE)


def test_a_consumer_that_breaks_and_keeps_the_stream() -> None:
    inputs = Inputs()
    with Pool(2) as pool:
        stream = pool.imap(calls.double, iter(inputs))
        for value in stream:
            if value == 200:
                break
        assert pool.map(calls.double, range(10)) == [2 * i for i in range(10)]
        assert next(stream) == 202
    assert inputs.closed.wait(PATIENCE)


def test_a_stream_that_is_closed_closes_its_generator_and_the_pool_goes_on() -> None:
    inputs = Inputs()
    with Pool(2) as pool:
        with pool.imap(calls.double, iter(inputs)) as stream:
            assert next(stream) == 0
        assert inputs.closed.wait(PATIENCE)
        assert pool.map(calls.double, range(10)) == [2 * i for i in range(10)]


def test_an_endless_stream_that_nobody_holds_is_stopped() -> None:
    inputs = Inputs()
    with Pool(2) as pool:
        for value in pool.imap(calls.double, iter(inputs)):
            if value == 200:
                break
        assert inputs.closed.wait(PATIENCE), "else an endless generator is run for ever for nobody"
        assert pool.map(calls.double, range(10)) == [2 * i for i in range(10)]


def test_a_drained_stream_hands_out_what_was_pulled() -> None:
    inputs = Inputs()
    with Pool(2) as pool:
        stream = pool.imap(calls.double, iter(inputs))
        assert [next(stream) for _ in range(5)] == [0, 2, 4, 6, 8]
        stream.drain()
        rest = list(stream)
        assert rest == [2 * i for i in range(5, 5 + len(rest))]
        assert inputs.closed.wait(PATIENCE)
        assert len(rest) + 5 == inputs.pulled


@pytest.mark.parametrize("comes_late", [False, True])
def test_a_drained_stream_hands_out_what_was_pulled_just_before(comes_late: bool) -> None:
    """Inputs wait a moment for others to travel with; and one may be on its way out of the generator."""
    go = threading.Event()
    ready = threading.Event()

    def inputs() -> Iterator[int]:
        ready.wait()
        yield from range(5)
        stream.drain()
        if comes_late:
            threading.Event().wait(0.01)
            yield 5
        go.wait(PATIENCE)

    with Pool(2) as pool:
        stream = pool.imap(calls.double, inputs())
        ready.set()
        assert list(stream) == [0, 2, 4, 6, 8, 10][: 6 if comes_late else 5]
        go.set()


def test_an_input_that_blocks_holds_up_nobody_else() -> None:
    go = threading.Event()

    def waits() -> Iterator[int]:
        yield 1
        go.wait()
        yield 2

    with Pool(2) as pool:
        stream = pool.imap(calls.double, waits())
        assert next(stream) == 2, "what was pulled is run, though the next is not there"
        assert pool.map(calls.double, range(100)) == [2 * i for i in range(100)]
        go.set()
        assert list(stream) == [4]


def test_an_input_that_blocks_does_not_hold_the_exit() -> None:
    go = threading.Event()

    def waits() -> Iterator[int]:
        yield 1
        go.wait()

    with Pool(2) as pool:
        stream = pool.imap(calls.double, waits())
        assert next(stream) == 2
    go.set()


def test_inputs_may_come_from_the_pools_own_results() -> None:
    with Pool(2) as pool:
        stages = pool.imap(calls.double, pool.imap(calls.double, iter(range(5000))))
        assert list(stages) == [4 * i for i in range(5000)]


def test_a_generator_that_uses_a_closed_pool() -> None:
    with Pool(1) as pool:
        stream = pool.imap(calls.double, (pool.apply(calls.double, (i,)) for i in range(3)))
        pool.close()
        with pytest.raises(PoolClosed):
            list(stream)


def test_huge_ints_count_by_their_bytes(gate: Gate) -> None:
    pulled = 0

    def numbers() -> Iterator[int]:
        nonlocal pulled
        for exponent in itertools.count(8 << 20):
            pulled += 1
            yield 1 << exponent  # a MiB

    with Pool(1) as pool:
        pool.map(int.bit_length, range(20_000))  # it is short
        pool.submit(calls.stand, gate)
        gate.reached()
        stream = pool.imap(int.bit_length, numbers())
        wait_until(lambda: pulled >= 4, "some are pulled")
        threading.Event().wait(0.5)
        assert pulled <= 20, "16 MiB ahead"
        gate.open()
        assert next(stream) == (8 << 20) + 1


def test_more_inputs_than_can_be_counted() -> None:
    with Pool(1) as pool:
        assert list(itertools.islice(pool.imap(calls.double, range(2**80)), 3)) == [0, 2, 4]
