"""Pipes: as `multiprocessing` has them; an end sees that the other side has died, can be awaited, and sent anywhere."""

import asyncio
import gc
import multiprocessing
import os
import pickle
import select
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from typing import Any

import pytest

from procoro import Lock, Pipe, Pool, Queue
from procoro.errors import NotPicklable
from procoro.ipc.carriers import DEEP
from procoro.wire.channel import descriptors
from tests.gate import Gate
from tests.promises import shares
from tests.promises.conftest import Script
from tests.promises.forks import PATIENCE, Child, Fork
from tests.promises.test_queues import ITEMS, same
from tests.promises.waits import GREENLETS, Run, every_loop, meanwhile


def child_with(fork: Fork, end: Any, other: Any, function: Callable[..., Any], *args: Any) -> Child:
    """A child that has one end and only that, as a good program has it."""

    def live() -> Any:
        other.close()
        return function(*args)

    child = fork(live)
    end.close()
    return child


# ---------------------------------------------------------------------------------------------- what goes through


def test_what_is_sent_arrives_in_order_both_ways(fork: Fork) -> None:
    here, there = Pipe()

    def echo() -> None:
        while (item := there.recv()) != "over":
            there.send(item)

    with here:
        child = child_with(fork, there, here, echo)
        for item in ITEMS:
            here.send(item)
            assert same(here.recv(), item)
        here.send("over")
        child.result()
        with pytest.raises(EOFError):
            here.recv()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            here.send(1)


def test_many_small_and_large_messages_one_way(fork: Fork) -> None:
    here, there = Pipe(duplex=False)
    with here:
        child = child_with(
            fork, there, here, lambda: [there.send((n, bytes(n * n % 90_000))) for n in range(600)] and None
        )
        for number in range(600):
            assert here.recv() == (number, bytes(number * number % 90_000))
        child.result()


def test_one_way_is_one_way() -> None:
    reader, writer = Pipe(duplex=False)
    with reader, writer:
        assert (reader.readable, reader.writable, writer.readable, writer.writable) == (True, False, False, True)
        for wrong in (
            lambda: reader.send(1),
            lambda: reader.send_bytes(b""),
            writer.recv,
            writer.recv_bytes,
            writer.poll,
        ):
            with pytest.raises(OSError, match="-only"):
                wrong()
        writer.send(1)
        assert reader.recv() == 1


def test_arrays_arrive_as_arrays() -> None:
    numpy = pytest.importorskip("numpy")
    here, there = Pipe()
    with here, there:
        for size in (10, 1_000_000):
            here.send([numpy.arange(size)])
            assert (there.recv()[0] == numpy.arange(size)).all()


def test_bytes() -> None:
    here, there = Pipe()
    with here, there:
        for data in (b"", b"x", b"y" * 65_536, b"z" * (8 << 20)):
            here.send_bytes(data)
            assert there.recv_bytes() == data
        here.send_bytes(b"0123456789", 3)
        here.send_bytes(memoryview(b"0123456789"), 3, 4)
        here.send_bytes(bytearray(b"0123456789"), size=2)
        assert [there.recv_bytes() for _ in range(3)] == [b"3456789", b"3456", b"01"]
        for wrong in (
            lambda: here.send_bytes(b"01", -1),
            lambda: here.send_bytes(b"01", 3),
            lambda: here.send_bytes(b"01", 1, 2),
            lambda: here.send_bytes(b"01", 0, -1),
        ):
            with pytest.raises(ValueError, match=r"offset|size|length"):
                wrong()
        with pytest.raises(TypeError):
            here.send_bytes("text")
        assert not there.poll(), "what was refused was not sent"


def test_bytes_are_received_into_a_buffer() -> None:
    here, there = Pipe()
    with here, there:
        buffer = bytearray(b"." * 10)
        here.send_bytes(b"abc")
        assert there.recv_bytes_into(buffer) == 3
        here.send_bytes(b"de")
        assert there.recv_bytes_into(buffer, 3) == 2
        assert buffer == b"abcde....."
        here.send_bytes(b"x" * 11)
        with pytest.raises(multiprocessing.BufferTooShort) as caught:
            there.recv_bytes_into(buffer)
        assert caught.value.args == (b"x" * 11,)
        for offset in (-1, 11):
            with pytest.raises(ValueError, match="offset"):
                there.recv_bytes_into(buffer, offset)


def test_a_message_that_is_too_long_ends_the_connection() -> None:
    here, there = Pipe()
    with here, there:
        here.send_bytes(b"abc")
        assert there.recv_bytes(3) == b"abc"
        with pytest.raises(ValueError, match="maxlength"):
            there.recv_bytes(-1)
        here.send_bytes(b"abcd")
        with pytest.raises(OSError, match="length"):
            there.recv_bytes(3)
        assert there.closed


def test_threads_send_and_receive() -> None:
    here, there = Pipe()
    found: list[Any] = []
    with here, there:

        def send(me: int) -> None:
            for number in range(100):
                here.send((me, number, bytes(1000 * me)))

        threads = [threading.Thread(target=send, args=(me,)) for me in range(3)]
        receivers = [
            threading.Thread(target=lambda: [found.append(there.recv()) for _ in range(150)]) for _ in range(2)
        ]
        for thread in threads + receivers:
            thread.start()
        for thread in threads + receivers:
            thread.join()
    assert sorted(found) == [(me, number, bytes(1000 * me)) for me in range(3) for number in range(100)]


# ---------------------------------------------------------------------------------------------- waiting


def test_poll_tells_of_a_message_and_of_the_end(fork: Fork, gate: Gate) -> None:
    here, there = Pipe()

    def send() -> None:
        gate.pass_through()
        there.send(1)
        gate.pass_through()

    with here:
        child = child_with(fork, there, here, send)
        gate.reached()
        assert here.poll() is False and here.poll(0.05) is False and here.poll(-1) is False
        gate.open()
        assert here.poll(PATIENCE) is True and here.poll() is True
        assert here.recv() == 1
        gate.reached()
        gate.open()
        child.result()
        assert here.poll(None) is True, "the end is something to receive, too"
        with pytest.raises(EOFError):
            here.recv()


def test_it_works_with_select_and_wait(fork: Fork, gate: Gate) -> None:
    ends = []
    try:
        for number in range(3):
            here, there = Pipe()
            ends.append(here)
            child_with(
                fork, there, here, lambda there=there, number=number: (there.send(number), gate.pass_through())[1]
            )
        found, waiting = [], list(ends)
        while waiting:
            for ready in wait(waiting, PATIENCE):
                found.append(ready.recv())
                waiting.remove(ready)
        assert sorted(found) == [0, 1, 2]
        assert wait(ends, 0) == [] and select.select(ends, [], [], 0)[0] == []
        gate.open(3)
        assert select.select(ends, [], [], PATIENCE)[0]
        poll = select.poll()
        poll.register(ends[0])
        assert poll.poll(PATIENCE)
        assert {type(end.fileno()) for end in ends} == {int}
    finally:
        for end in ends:
            end.close()


def test_a_send_waits_for_a_slow_reader(fork: Fork, gate: Gate) -> None:
    here, there = Pipe()

    def read() -> int:
        gate.pass_through()
        return sum(len(there.recv()) for _ in range(5000))

    with here:
        child = child_with(fork, there, here, read)
        gate.reached()
        sender = threading.Thread(target=lambda: [here.send(b"x" * 1000) for _ in range(5000)])
        sender.start()
        gate.open()
        assert child.result() == 5_000_000
        sender.join()


def test_a_send_ends_when_the_other_side_dies(fork: Fork, gate: Gate) -> None:
    here, there = Pipe()
    with here:
        child = child_with(fork, there, here, gate.pass_through)
        gate.reached()
        killing = threading.Timer(0.1, child.kill)
        killing.start()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            shares.send_on(here, b"x" * 1000)
        killing.join()


def test_the_death_of_the_other_side_is_seen(fork: Fork, gate: Gate) -> None:
    here, there = Pipe()
    with here:
        child = child_with(fork, there, here, lambda: (there.send(1), gate.pass_through())[1])
        gate.reached()
        child.kill()
        assert here.recv() == 1, "what was sent is not lost"
        with pytest.raises(EOFError):
            here.recv()
        with pytest.raises(EOFError):
            here.recv_bytes()


def test_large_messages_that_died_with_their_receiver_keep_no_room() -> None:
    """Received, and not copied out: the room for as many as that can be under way is taken."""
    here, there = Pipe()
    large = bytes(5_000_000)
    with here, there, ThreadPoolExecutor(1) as threads:
        for _ in range(DEEP):
            here.send(large)
            _, ancillary, _, _ = there._end.recvmsg(1000, 100)
            for fd in descriptors(ancillary):
                os.close(fd)
        sending = threads.submit(here.send, large + b"!")
        assert there.recv() == large + b"!"
        sending.result(PATIENCE)


def test_it_is_seen_also_if_a_pool_was_started_in_between(fork: Fork, gate: Gate) -> None:
    """Its workers have not inherited the other end."""
    here, there = Pipe()
    with here, Pool(1) as pool:
        pool.apply(os.getpid)
        child = child_with(fork, there, here, gate.pass_through)
        gate.reached()
        assert pool.apply(os.getpid) != child.pid
        child.kill()
        with pytest.raises(EOFError):
            here.recv()


def test_ends_that_were_closed() -> None:
    here, there = Pipe()
    assert not here.closed
    with here:
        there.close()
        there.close()
        assert there.closed
        for ask in (there.recv, lambda: there.send(1), there.fileno, there.poll, there.recv_bytes):
            with pytest.raises(OSError, match="closed"):
                ask()
        with pytest.raises(EOFError):
            here.recv()
    assert here.closed


def test_what_cannot_travel_is_refused_at_send() -> None:
    here, there = Pipe()
    with here, there:
        with pytest.raises(NotPicklable, match="lock"):
            here.send({"deep": [threading.Lock()]})
        here.send(1)
        assert there.recv() == 1


def test_ctrl_c_ends_a_wait(script: Script) -> None:
    out = script(
        """
        import os, signal, threading
        from procoro import Pipe
        here, there = Pipe()
        def fill():
            while True:
                here.send(b"x" * 1000)
        for wait in (here.recv, lambda: here.poll(None), fill):
            try:
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
                wait()
            except KeyboardInterrupt:
                print("interrupted")
        print(there.recv() == b"x" * 1000)
        there.send(1)
        print(here.recv())
        here.close(), there.close()
        """
    )
    assert out == "interrupted\n" * 3 + "True\n1\n"


# ---------------------------------------------------------------------------------------------- awaiting


@every_loop
def test_the_loop_goes_on_while_a_task_receives(run: Run[Any], fork: Fork, gate: Gate) -> None:
    here, there = Pipe()

    def send() -> None:
        for item in (7, b"x" * (1 << 20)):
            gate.pass_through()
            there.send(item)
        gate.pass_through()
        there.send_bytes(b"bytes")

    with here:
        child = child_with(fork, there, here, send)
        assert run(meanwhile(here.arecv(), gate.open)) == 7
        assert run(meanwhile(here.arecv(), gate.open)) == b"x" * (1 << 20)
        assert run(meanwhile(here.arecv_bytes(), gate.open)) == b"bytes"
        child.result()
        with pytest.raises(EOFError):
            run(here.arecv())


@every_loop
def test_the_loop_goes_on_while_a_task_sends(run: Run[None], fork: Fork, gate: Gate) -> None:
    here, there = Pipe()

    def read() -> list[int]:
        gate.pass_through()
        return [len(there.recv()) for _ in range(5000)] + [len(there.recv_bytes())]

    async def send() -> None:
        for _ in range(5000):
            await here.asend(b"x" * 1000)
        await here.asend_bytes(b"y" * 5)

    with here:
        child = child_with(fork, there, here, read)
        gate.reached()
        run(meanwhile(send(), gate.open))
        assert child.result() == [1000] * 5000 + [5]


@every_loop
def test_a_death_wakes_who_awaits_a_message(run: Run[Any], fork: Fork, gate: Gate) -> None:
    here, there = Pipe()
    with here:
        child = child_with(fork, there, here, gate.pass_through)
        gate.reached()
        with pytest.raises(EOFError):
            run(meanwhile(here.arecv(), child.kill))


@every_loop
def test_several_tasks_receive_from_one_end(run: Run[list[int]]) -> None:
    here, there = Pipe()

    async def main() -> list[int]:
        tasks = [asyncio.create_task(here.arecv()) for _ in range(5)]
        await asyncio.sleep(0.01)
        tasks.pop().cancel()
        for number in range(4):
            await there.asend(number)
        return sorted(await asyncio.gather(*tasks))

    with here, there:
        assert run(main()) == [0, 1, 2, 3]


def test_other_greenlets_run_while_one_waits(script: Script) -> None:
    pytest.importorskip("gevent")
    out = script(
        GREENLETS
        + """
    from procoro import Pipe

    here, there = Pipe()

    def echo():
        here.close()
        while (item := there.recv()) is not None:
            there.send(item)

    child = forked(echo)
    there.close()
    print(meanwhile(here.recv, lambda: here.send(7)))
    print(meanwhile(lambda: here.poll(None), lambda: here.send(8)), here.recv())
    here.send(None)
    os.waitpid(child, 0)

    left, right = Pipe()
    meanwhile(lambda: [left.send(b"x" * 1000) for _ in range(5000)], lambda: [right.recv() for _ in range(5000)])
    for end in (here, left, right):
        end.close()
    """
    )
    assert out == "7\nTrue 8\n"


# ---------------------------------------------------------------------------------------------- travelling


def test_an_end_is_sent_to_a_worker_that_runs() -> None:
    with Pool(1) as pool:
        pid = pool.apply(os.getpid)
        here, there = Pipe()
        with here:
            result = pool.submit(shares.echo, there)
            for item in ITEMS[:1]:
                here.send(item)
                assert here.recv() == (pid, item)
            result.get(PATIENCE)
            there.close()
            with pytest.raises(EOFError):
                here.recv()


def test_a_worker_that_dies_is_the_end_of_its_pipe(gate: Gate) -> None:
    with Pool(1) as pool:
        here, there = Pipe()
        with here:

            def stay(end: Any) -> None:
                end.send(1)
                gate.pass_through()

            result = pool.submit(stay, there)
            pid = gate.reached()
            there.close()
            os.kill(pid, 9)
            result.exception(PATIENCE)
            assert here.recv() == 1
            with pytest.raises(EOFError):
                here.recv()


def test_locks_queues_and_ends_go_through_a_pipe(fork: Fork, gate: Gate) -> None:
    """What is sent is made after the child was: it can have it by no other way."""
    here, there = Pipe()

    def work() -> None:
        lock, queue, end = there.recv()
        with lock:
            queue.put("from the queue")
            end.send("from the pipe")
            end.close()
            gate.pass_through()

    with here:
        child = child_with(fork, there, here, work)
        lock, queue, (mine, theirs) = Lock(), Queue[str](), Pipe()
        with mine:
            here.send((lock, queue, theirs))
            theirs.close()
            gate.reached()
            assert not lock.acquire(False)
            assert (queue.get(), mine.recv()) == ("from the queue", "from the pipe")
            with pytest.raises(EOFError):
                mine.recv()
        gate.open()
        child.result()
        assert lock.acquire(timeout=PATIENCE)
        with pytest.raises(EOFError):
            queue.get()


def test_what_was_sent_and_never_received_is_no_holder() -> None:
    """It was under way when its receiver ended: nobody waits for it."""
    here, there = Pipe()
    queue: Queue[int] = Queue()
    here.send(queue)
    there.close()
    here.close()
    with pytest.raises(EOFError):
        queue.get()


def test_a_plain_pickle_is_refused_in_words() -> None:
    here, there = Pipe()
    with here, there, pytest.raises(pickle.PicklingError, match="argument"):
        pickle.dumps(here)


# ---------------------------------------------------------------------------------------------- leftovers


@pytest.mark.filterwarnings("error")
def test_ends_in_a_cycle_are_dropped_without_a_warning() -> None:
    for _ in range(20):
        ends: list[Any] = list(Pipe())
        for end in ends:
            end.cycle = end
        ends.append(ends)
    del ends, end
    gc.collect()


def test_200_come_and_go_and_nothing_stays() -> None:
    def use(size: int, closes: bool) -> None:
        here, there = Pipe()
        here.send(bytes(size))
        if closes:
            here.close()
            there.close()
        else:
            assert there.recv() == bytes(size)

    before = shares.belongings()
    for number in range(200):
        use(100_000 * (number & 1), bool(number & 2))
    assert shares.belongings() == before


def test_queues_that_go_through_a_pipe_200_times_leave_nothing() -> None:
    here, there = Pipe()
    with here, there:
        before = shares.belongings()
        for number in range(200):
            queue: Queue[int] = Queue()
            here.send([queue, Lock()])
            there.recv()[0].put(number)
            assert queue.get() == number
        del queue
        assert shares.belongings() == before


def test_the_users_default_time_out_is_not_ours(script: Script) -> None:
    said = script(
        """
        import socket
        from procoro import Pipe, Pool, Process
        socket.setdefaulttimeout(0.05)
        process = Process(target=sum, args=([1, 2],))
        process.start()
        print(process.result())
        with Pool(1) as pool:
            print(pool.apply(sum, ([3, 4],)))
        here, there = Pipe()
        process = Process(target=there.send, args=("late",))
        print(here._end.gettimeout(), there._end.gettimeout())
        process.start()
        print(here.recv())
        """
    )
    assert said == "3\n7\nNone None\nlate\n"


@pytest.mark.parametrize("value", ["x", "x" * 100_000, b"x" * 100_000, bytearray(b"x" * 100_000), ["x" * 10] * 10_000])
def test_an_object_is_handed_on_as_bytes(value: Any) -> None:
    """By a relay, which looks at nothing: what `recv_bytes` takes of an object is its pickle, as in multiprocessing."""
    (sender, relay), (handing_on, receiver) = Pipe(), Pipe()
    sender.send(value)
    handing_on.send_bytes(relay.recv_bytes())
    assert receiver.recv() == value


def test_what_was_sent_is_received_though_the_other_side_has_not_read_ours() -> None:
    """The kernel tells of that first, as of a reset."""

    for received in (lambda end: end.recv_bytes(), lambda end: asyncio.run(end.arecv_bytes())):
        here, there = Pipe()
        with here:
            here.send_bytes(b"never read")
            there.send_bytes(b"sent")
            there.close()
            assert received(here) == b"sent"


def test_large_messages_of_many_senders_hold_few_descriptors(fork: Fork) -> None:
    """Each has memory of its own for them; an end keeps that of the last four."""
    here, there = Pipe()
    with here, there:
        before = len(os.listdir("/proc/self/fd"))
        for number in range(1, 13):
            child = fork(there.send, bytes(100_000))
            assert len(here.recv()) == 100_000
            child.result()
            assert len(os.listdir("/proc/self/fd")) - before - number <= 6  # each child has its answer's


def test_descriptors_of_what_is_received_as_bytes_are_closed() -> None:
    here, there = Pipe()
    with here, there:
        lock = Lock()
        here.send(lock)
        before = len(os.listdir("/proc/self/fd"))
        assert there.recv_bytes()
        assert len(os.listdir("/proc/self/fd")) == before
