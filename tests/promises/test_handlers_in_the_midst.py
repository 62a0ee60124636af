"""Signal handlers, and what they raise, between any two steps of procoro's own code in the caller's thread."""

import concurrent.futures
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from procoro import Pool, Queue, Result
from procoro.errors import PoolClosed, QueueAbandoned, WorkerDied
from procoro.results import batch
from tests.gate import Gate
from tests.promises import calls
from tests.promises.looks import wait_until

PATIENCE = 30.0


@pytest.fixture
def handling() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Sets what is done at a SIGUSR1."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda do: signal.signal(signal.SIGUSR1, lambda *_: do()) and None
    signal.signal(signal.SIGUSR1, before)


def interrupted(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next submit that opens a batch is interrupted there, under the pool's lock."""
    open_batch, signals = pool._open_batch, iter([True])

    def opened(*args: Any) -> Any:
        batch = open_batch(*args)
        if next(signals, False):
            signal.raise_signal(signal.SIGUSR1)
        return batch

    monkeypatch.setattr(pool, "_open_batch", opened)


def test_a_handler_waits_for_a_call_in_the_midst_of_a_submit(
    handling: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Pool(1) as pool:
        got = []
        handling(lambda: got.append(pool.submit(calls.double, 21).get(PATIENCE)))
        interrupted(pool, monkeypatch)
        assert pool.submit(calls.double, 1).get(PATIENCE) == 2
        assert got == [42]


def test_a_handler_waits_for_a_call_in_the_midst_of_a_map(
    handling: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Pool(1) as pool:
        got = []
        handling(lambda: got.append(pool.submit(calls.double, 21).get(PATIENCE)))
        opens = pool._conductor.open
        monkeypatch.setattr(pool._conductor, "open", lambda *args: (opens(*args), signal.raise_signal(signal.SIGUSR1)))
        assert pool.map(calls.double, [1]) == [2]
        assert got == [42]


@pytest.mark.parametrize("end", [Result.cancel, Result.kill])
def test_a_handler_ends_another_call_in_the_midst_of_a_submit(
    handling: Callable[..., None], monkeypatch: pytest.MonkeyPatch, gate: Gate, end: Callable[[Result[Any]], bool]
) -> None:
    with Pool(1) as pool:
        pool.submit(calls.stand, gate)
        gate.reached()
        waits = pool.submit(calls.double, 1)
        assert not waits.running()  # it is known to the crank
        ended = []
        handling(lambda: ended.append(end(waits)))
        interrupted(pool, monkeypatch)
        last = pool.submit(len, "abc")
        assert ended == [True] and waits.cancelled()
        gate.open()
        assert last.get(PATIENCE) == 3


def test_what_a_handler_raises_is_not_taken_for_a_refusal(
    handling: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes as it is."""

    def late(*_: object) -> None:
        raise TimeoutError("the user's own alarm")

    handling(late)
    with Pool(1) as pool:
        monkeypatch.setattr(pool._conductor.packer, "submitted", lambda _: signal.raise_signal(signal.SIGUSR1))
        with pytest.raises(TimeoutError, match="the user's own alarm"):
            pool.submit(calls.double, 1)


def test_a_condition_that_was_left_held_stops_no_pool(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    """As by a Ctrl-C in `concurrent.futures.wait`, which takes many: the call ends all the same, and so do others."""
    monkeypatch.setattr(batch, "TRIES", 5)
    with Pool(1) as pool, Pool(1) as other:
        result = pool.submit(calls.stand, gate)
        gate.reached()
        result._condition.acquire()
        gate.open()
        assert other.submit(calls.double, 1).get(PATIENCE) == 2
        assert pool.submit(calls.double, 2).get(PATIENCE) == 4
        assert result.get(PATIENCE) is None or result.done()


def test_done_takes_no_lock(gate: Gate) -> None:
    """A program asks again and again, and a Ctrl-C comes at any step."""
    with Pool(1) as pool:
        result = pool.submit(calls.stand, gate)
        gate.reached()
        assert not result.done() and not result.cancelled()
        assert "_condition" not in vars(result)
        gate.open()
        concurrent.futures.wait([result])
        assert result.done()


def test_a_forked_child_that_is_refused_changes_no_function_of_its_parents(gate: Gate) -> None:
    """They share the file of functions."""
    with Pool(1) as pool:
        pool.submit(calls.stand, gate)
        gate.reached()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.read(read, 1)
            try:
                pool.submit(calls.double, 2)
            except PoolClosed:
                os._exit(0)
            os._exit(1)
        result = pool.submit(calls.add, 1)  # written to the file, and not read yet
        os.write(write, b"x")
        assert os.waitpid(pid, 0)[1] == 0
        os.close(read)
        os.close(write)
        gate.open()
        assert result.get(PATIENCE) == 1


def test_who_keeps_a_result_keeps_no_function() -> None:
    """Nor what that holds: a queue of which nobody else has a hold is abandoned."""
    queue: Queue[int] = Queue()
    with Pool(1) as pool:
        function = holding(queue)
        kept = [pool.submit(function, 1) for _ in range(3)]
        assert [result.get(PATIENCE) for result in kept] == [1, 1, 1]
    with pytest.raises(QueueAbandoned):
        queue.get(timeout=PATIENCE)
    del kept


def holding(queue: Queue[int]) -> Callable[[int], int]:
    @functools.wraps(calls.add)
    def add(value: int) -> int:
        return value if queue is not None else 0

    return add


@pytest.mark.parametrize("given", [b"\x80abc", b"\x80\x04K\x01."])
def test_bytes_are_shown_as_they_are_though_they_look_like_a_pickle(given: bytes) -> None:
    with Pool(1) as pool:
        with pytest.raises(WorkerDied, match="x80"):
            pool.submit(calls.die, given).get(PATIENCE)
        with pytest.raises(WorkerDied, match="x80"):
            list(pool.imap(calls.die, [given]))


# -------------------------------------------------------------- what a handler raises while values are unpickled


class Signalled:
    """Unpickling it sends this process a signal, if one is due."""

    due = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signalled) and self.number == other.number

    def __hash__(self) -> int:
        return self.number

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__dict__.update(state)
        if Signalled.due:
            Signalled.due -= 1
            signal.raise_signal(signal.SIGUSR1)


class TimeIsUp(Exception):
    """As programs raise it from a handler of SIGALRM."""


RAISED = [SystemExit(3), KeyboardInterrupt(), TimeIsUp()]


def raising(error: BaseException) -> Callable[[], None]:
    def do() -> None:
        raise error

    return do


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_it_goes_on_its_way_and_a_stream_loses_nothing(handling: Callable[..., None], error: BaseException) -> None:
    handling(raising(error))
    with Pool(1) as pool:
        stream = pool.imap(Signalled, range(500))
        values = [next(stream) for _ in range(100)]
        Signalled.due = 1
        with pytest.raises(type(error)):
            values.extend(stream)
        values += stream
    assert values == [Signalled(number) for number in range(500)]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_it_goes_on_its_way_and_the_value_can_be_asked_for_again(
    handling: Callable[..., None], error: BaseException
) -> None:
    handling(raising(error))
    with Pool(1) as pool:
        one, many = pool.submit(Signalled, 7), pool.map_async(Signalled, range(20))
        for result in (one, many):
            result.wait(PATIENCE)
            Signalled.due = 1
            with pytest.raises(type(error)):
                result.get(PATIENCE)
        assert one.get(PATIENCE) == Signalled(7)
        assert many.get(PATIENCE) == [Signalled(number) for number in range(20)]


# ----------------------------------------------------------------------------------- while a pool is made


def test_a_pool_whose_thread_was_just_started(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", started)
    with pytest.raises(KeyboardInterrupt):
        Pool(1)
    monkeypatch.undo()
    with Pool(1) as pool:
        assert pool.submit(calls.double, 4).get(PATIENCE) == 8


@pytest.mark.parametrize("place", ["LocalEngine.__init__", "Conductor._start", "weakref.finalize"])
def test_a_pool_that_is_half_made(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """(`nothing_left_behind` looks for its descriptors, its template and its thread.)"""

    def interrupts(*_: object) -> None:
        raise KeyboardInterrupt

    if place == "LocalEngine.__init__":
        monkeypatch.setattr("procoro.conductor.conductor.LocalEngine", interrupts)
    elif place == "Conductor._start":
        monkeypatch.setattr("procoro.conductor.conductor.Conductor._start", property(interrupts))
    else:
        monkeypatch.setattr("procoro.pool.weakref.finalize", interrupts)
    with pytest.raises(KeyboardInterrupt):
        Pool(1)


def test_a_waiter_whose_event_was_left_locked_stops_no_pool(gate: Gate) -> None:
    with Pool(2) as pool:
        stands = pool.submit(calls.stand, gate, 5)
        gate.reached()
        waiting = threading.Thread(target=concurrent.futures.wait, args=([stands], PATIENCE))
        waiting.start()
        wait_until(lambda: stands._waiters, "it waits")
        (waiter,) = stands._waiters
        condition = getattr(waiter.event, "_cond", None)
        if condition is not None:
            condition.acquire()
        gate.open()
        assert stands.get(PATIENCE) == 5
        assert pool.submit(calls.double, 1).get(1.0) == 2
        waiting.join(PATIENCE)


def test_a_handler_asks_for_the_map_that_is_just_being_unpickled(handling: Callable[..., None]) -> None:
    with Pool(1) as pool:
        result = pool.map_async(Signalled, range(20))
        result.wait(PATIENCE)
        got: list[object] = []
        handling(lambda: got.append(result.get(PATIENCE)))
        Signalled.due = 1
        values = [Signalled(number) for number in range(20)]
        assert result.get(PATIENCE) == values
        assert got == [values]
        assert result.get(PATIENCE) is result.get(PATIENCE)


def test_a_handler_takes_from_the_stream_whose_values_are_just_being_unpickled(  # Stream._advance
    handling: Callable[..., None],
) -> None:
    with Pool(1) as pool:
        stream = pool.imap(Signalled, range(2000))
        got: list[Signalled] = []
        handling(lambda: got.append(next(stream)))
        values = [next(stream) for _ in range(100)]
        Signalled.due = 1
        values += stream
        assert len(got) == 1
        assert sorted(value.number for value in (*got, *values)) == [*range(2000)]
