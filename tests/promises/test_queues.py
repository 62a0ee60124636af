"""Queues between processes: as `multiprocessing` has them; nothing is lost, all can be awaited, and sent anywhere."""

import asyncio
import os
import pickle
import queue as standard
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procoro import JoinableQueue, Lock, Pool, Queue, SimpleQueue
from procoro.errors import ConsumerDied, NotPicklable, ProcoroError, QueueShutDown
from procoro.ipc.rings import END, JOINERS_NEWS, JOINERS_SLEEP
from tests.gate import Gate
from tests.promises import shares
from tests.promises.conftest import Script
from tests.promises.forks import PATIENCE, Cells, Fork, asleep
from tests.promises.waits import GREENLETS, Run, every_loop, meanwhile

QUEUES: list[Any] = [SimpleQueue, Queue, JoinableQueue, lambda: Queue(100)]
NAMES = ["SimpleQueue", "Queue", "JoinableQueue", "Queue(100)"]
every_queue = pytest.mark.parametrize("kind", QUEUES, ids=NAMES)
with_timeouts = pytest.mark.parametrize("kind", [Queue, JoinableQueue])

ITEMS: list[Any] = [
    None,
    0,
    "雪芙",
    b"",
    b"x" * 10,
    {"id": 7, "name": "row 7", "score": 1.5},
    [(), {"a": [b"y" * 100]}],
    b"z" * 65_535,
    b"z" * 65_536,
    bytearray(100_000),
    bytes(range(256)) * 32_768,  # 8 MiB
    ["text" * 50_000],
    ValueError("an exception is an item like any other"),
]


def same(got: Any, put: Any) -> bool:
    return type(got) is type(put) and (repr(got) == repr(put) if isinstance(put, Exception) else bool(got == put))


# ---------------------------------------------------------------------------------------------- what goes through


@every_queue
def test_what_is_put_is_got_in_order(kind: Any, fork: Fork) -> None:
    queue = kind()
    child = fork(shares.put_all, queue, ITEMS * 2)
    for item in ITEMS * 2:
        assert same(queue.get(), item)
    child.result()
    assert queue.empty()


@every_queue
def test_it_goes_both_ways_and_within_one_process(kind: Any, fork: Fork) -> None:
    to, back = kind(), kind()

    def echo() -> None:
        while (item := to.get()) is not None:
            back.put(item)

    child = fork(echo)
    for item in ITEMS[1:]:
        to.put(item)
        assert same(back.get(), item)
    to.put(None)
    child.result()
    for item in ITEMS:
        to.put(item)
        assert same(to.get(), item)


def test_arrays_arrive_as_arrays_that_can_be_written_to(fork: Fork) -> None:
    numpy = pytest.importorskip("numpy")
    queue: Queue[Any] = Queue()
    arrays = [numpy.arange(size) for size in (10, 100_000, 1_000_000)]
    child = fork(shares.put_all, queue, [{"arrays": [one, one[::2]]} for one in arrays])
    for one in arrays:
        first, second = queue.get()["arrays"]
        assert (first == one).all() and (second == one[::2]).all()
        first += 1
    child.result()


@every_queue
def test_many_put_and_many_get(kind: Any, fork: Fork) -> None:
    """Each item once; and what one process has put, another gets in that order."""
    queue, count = kind(), 400

    def produce(me: int) -> None:
        for number in range(count):
            queue.put((me, number))

    def consume() -> list[tuple[int, int]]:
        found = []
        while (item := queue.get()) is not None:
            found.append(item)
        return found

    consumers = [fork(consume) for _ in range(2)]
    for child in [fork(produce, me) for me in range(3)]:
        child.result()
    for _ in consumers:
        queue.put(None)
    found = [child.result() for child in consumers]
    assert sorted(item for one in found for item in one) == [(me, n) for me in range(3) for n in range(count)]
    for one in found:
        numbers = defaultdict(list)
        for me, number in one:
            numbers[me].append(number)
        assert all(row == sorted(row) for row in numbers.values())


@every_queue
def test_threads_put_and_get(kind: Any) -> None:
    queue, found = kind(), []

    def produce() -> None:
        for number in range(200):
            queue.put(number)

    def consume() -> None:
        while (item := queue.get()) is not None:
            found.append(item)

    producers = [threading.Thread(target=produce) for _ in range(3)]
    consumers = [threading.Thread(target=consume) for _ in range(3)]
    for thread in producers + consumers:
        thread.start()
    for thread in producers:
        thread.join()
    for _ in consumers:
        queue.put(None)
    for thread in consumers:
        thread.join()
    assert sorted(found) == sorted([*range(200)] * 3)


def test_an_item_is_what_it_was_when_it_was_put() -> None:
    queue: Queue[list[int]] = Queue()
    item = [1]
    queue.put(item)
    item.append(2)
    assert queue.get() == [1]


# ---------------------------------------------------------------------------------------------- how much it holds


def test_unbounded_is_unbounded(fork: Fork) -> None:
    """Filled by a process that ends before anybody reads."""
    for kind in (SimpleQueue, Queue, JoinableQueue):
        queue = kind()
        fork(shares.put_all, queue, [b"x" * 1024] * 3000).result()
        fork(queue.put, bytes(32 << 20)).result()
        assert [queue.get() for _ in range(3000)] == [b"x" * 1024] * 3000
        assert queue.get() == bytes(32 << 20)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_million_items(fork: Fork) -> None:
    queue: Queue[int] = Queue()

    def fill() -> int:
        for number in range(1_000_000):
            queue.put(number)
        return queue.qsize()

    assert fork(fill).result(90) == 1_000_000
    for number in range(1_000_000):
        assert queue.get() == number
    assert queue.empty()


def pages_of_queues() -> int:
    """Memory behind this process's queues, in blocks of 512 bytes."""
    blocks: dict[int, int] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            if "memfd:procoro" in os.readlink(f"/proc/self/fd/{name}"):
                seen = os.fstat(int(name))
                blocks[seen.st_ino] = seen.st_blocks
        except OSError:
            continue
    return sum(blocks.values())


def test_memory_is_given_back(fork: Fork) -> None:
    """What a queue keeps is bounded, whatever has gone through it, and however much was in it at a time."""
    before, queue = pages_of_queues(), Queue[bytes]()

    def kept() -> int:
        return (pages_of_queues() - before) * 512 >> 20

    for _ in range(100):
        queue.put(bytes(8 << 20))
        queue.get()
    assert kept() <= 64
    for _ in range(40):
        queue.put(bytes(8 << 20))
    assert kept() >= 320
    for _ in range(40):
        queue.get()
    for _ in range(1000):
        queue.put(bytes(1000))
        queue.get()
    assert kept() <= 64


@pytest.mark.parametrize("maxsize", [1, 2, 100])
def test_a_bound_is_exact(maxsize: int, fork: Fork) -> None:
    queue: Queue[int] = Queue(maxsize)
    for number in range(maxsize):
        assert not queue.full()
        queue.put_nowait(number)
    assert queue.full() and queue.qsize() == maxsize and not queue.empty()
    assert fork(queue.full).result() is True
    for put in (lambda: queue.put_nowait(0), lambda: queue.put(0, False), lambda: queue.put(0, True, 0.05)):
        with pytest.raises(standard.Full):
            put()
    assert queue.get() == 0
    queue.put(7, timeout=0)
    with pytest.raises(standard.Full):
        queue.put_nowait(0)
    assert [queue.get_nowait() for _ in range(maxsize)] == [*range(1, maxsize), 7]
    assert queue.empty() and not queue.full() and queue.qsize() == 0


def test_a_bound_is_never_passed(fork: Fork) -> None:
    queue: Queue[int] = Queue(3)
    producers = [fork(shares.put_all, queue, range(300)) for _ in range(4)]
    most = 0
    for _ in range(1200):
        most = max(most, queue.qsize())
        queue.get()
    for child in producers:
        child.result()
    assert 1 <= most <= 3 and queue.empty()


def test_a_put_waits_for_room(fork: Fork) -> None:
    queue: Queue[int] = Queue(1)
    queue.put(1)
    children = [fork(queue.put, number) for number in (2, 3)]
    for child in children:
        asleep(child)
    assert queue.get() == 1
    assert {queue.get(), queue.get()} == {2, 3}
    for child in children:
        child.result()


@pytest.mark.parametrize("maxsize", [0, -1])
def test_none_and_less_than_none_are_no_bound(maxsize: int) -> None:
    queue: Queue[int] = Queue(maxsize)
    for number in range(1000):
        queue.put_nowait(number)
    assert not queue.full()


# ---------------------------------------------------------------------------------------------- empty, and in time


@with_timeouts
def test_what_an_empty_queue_says(kind: Any, fork: Fork) -> None:
    queue = kind()
    began = time.monotonic()
    for get in (queue.get_nowait, lambda: queue.get(False), lambda: queue.get(True, 0.1), lambda: queue.get(timeout=0)):
        with pytest.raises(standard.Empty):
            get()
    with pytest.raises(standard.Empty):
        asyncio.run(queue.aget(timeout=0.1))
    assert time.monotonic() - began >= 0.2
    assert queue.empty() and queue.qsize() == 0
    fork(queue.put, 1).result()
    assert not queue.empty() and queue.qsize() == 1 and queue.get_nowait() == 1


@every_queue
def test_what_is_there_is_seen_at_once(kind: Any, fork: Fork, gate: Gate) -> None:
    """When `put` has returned, everybody can get it without waiting, also if its process dies that moment."""
    queue = kind()
    for number in range(30):

        def put(number: int = number) -> None:
            queue.put(number)
            os.kill(os.getpid(), 9)

        child = fork(put)
        child.wait()
        assert not queue.empty()
        assert (queue.get() if kind is SimpleQueue else queue.get(False)) == number


@every_queue
def test_readers_that_wait_get_what_comes(kind: Any, fork: Fork) -> None:
    queue = kind()
    readers = [fork(queue.get) for _ in range(3)]
    for child in readers:
        asleep(child)
    for number in range(3):
        queue.put(number)
    assert sorted(child.result() for child in readers) == [0, 1, 2]


# ---------------------------------------------------------------------------------------------- when others are gone


def test_get_ends_when_all_others_are_gone(fork: Fork, gate: Gate) -> None:
    queue: SimpleQueue[int] = SimpleQueue()

    def put_and_stay() -> None:
        queue.put(1)
        gate.pass_through()

    children = [fork(put_and_stay) for _ in range(2)]
    gate.reached(), gate.reached()
    threading.Thread(target=children[0].kill).start()
    assert queue.get() == queue.get() == 1, "what they have put is still there"
    asking = threading.Timer(0.1, children[1].kill)
    asking.start()
    with pytest.raises(EOFError):
        queue.get()
    asking.join()
    queue.put(2)
    assert queue.get() == 2, "one's own items are items, too"
    with pytest.raises(EOFError):
        queue.get()


async def all_wait(queues: list[Any]) -> None:
    """They have nothing, and wait, for longer than it takes to see that all others are gone."""
    asks = [asyncio.wait_for(queue.aget(), 1.3) for queue in queues]
    found = await asyncio.gather(*asks, return_exceptions=True)
    assert all(isinstance(one, TimeoutError) for one in found), found


def test_while_another_lives_or_if_it_never_was_shared_get_waits(fork: Fork, gate: Gate) -> None:
    queues = [kind() for kind in QUEUES]
    holder, dying = fork(gate.pass_through), fork(lambda: [shares.put_all(queue, [1]) for queue in queues])
    dying.result()
    gate.reached()
    assert [queue.get() for queue in queues] == [1] * len(queues)
    asyncio.run(all_wait(queues + [kind() for kind in QUEUES]))
    holder.kill()
    for queue in queues:
        with pytest.raises(EOFError):
            queue.get()


def test_the_last_of_several_readers_hears_of_the_end(fork: Fork, gate: Gate) -> None:
    """The readers wait for the writer, not for each other; when they are alone, the last ones learn it in turn."""
    queue: Queue[int] = Queue()

    def read() -> list[int]:
        found = []
        while True:
            try:
                found.append(queue.get())
            except EOFError:
                return found

    reader = fork(read)
    for number in range(3):
        queue.put(number)
    asleep(reader)
    queue.close()
    assert reader.result() == [0, 1, 2]


# ---------------------------------------------------------------------------------------------- misuse


class Poisonous:
    """It travels, and cannot be unpacked."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


@every_queue
def test_what_cannot_travel_is_refused_at_put(kind: Any) -> None:
    queue = kind()
    for put in (queue.put, lambda item: asyncio.run(queue.aput(item))):
        with pytest.raises(NotPicklable, match="lock") as caught:
            put({"deep": [threading.Lock()]})
        assert "deep" in str(caught.value)
        with pytest.raises(pickle.PicklingError):
            put(Lock())
        with pytest.raises(pickle.PicklingError):
            put([queue])
    assert queue.empty()
    queue.put(1)
    assert queue.get() == 1


@every_queue
def test_an_item_that_cannot_be_unpacked_harms_no_other(kind: Any) -> None:
    queue = kind()
    for item in (1, Poisonous(), 2):
        queue.put(item)
    assert queue.get() == 1
    with pytest.raises(ValueError, match="no number"):
        queue.get()
    assert queue.get() == 2


@every_queue
def test_a_queue_that_was_closed(kind: Any, fork: Fork) -> None:
    queue = kind()
    child = fork(queue.get)
    queue.put(1)
    queue.close()
    queue.close()
    asks = [queue.get, lambda: queue.put(1), lambda: asyncio.run(queue.aget()), lambda: asyncio.run(queue.aput(1))]
    if kind is not SimpleQueue:
        asks += [queue.get_nowait, lambda: queue.put_nowait(1)]
    for ask in asks:
        with pytest.raises(ValueError, match="closed"):
            ask()
    assert child.result() == 1, "it is closed here, not there"
    assert "closed" in repr(queue)


def test_wrong_arguments() -> None:
    for maxsize in ("1", 1.5, None):
        with pytest.raises(TypeError, match="maxsize"):
            Queue(maxsize)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        SimpleQueue(3)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        SimpleQueue().get(False)  # type: ignore[call-arg]


@every_queue
def test_a_plain_pickle_is_refused_in_words(kind: Any) -> None:
    with pytest.raises(pickle.PicklingError, match="argument"):
        pickle.dumps(kind())


def test_there_is_no_thread_to_join() -> None:
    queue: Queue[int] = Queue()
    queue.put(1)
    queue.join_thread()
    queue.cancel_join_thread()
    queue.close()
    queue.join_thread()
    assert threading.active_count() == len(threading.enumerate())


# ---------------------------------------------------------------------------------------------- shutting down


@with_timeouts
def test_a_queue_that_was_shut_down_is_emptied_first(kind: Any, fork: Fork) -> None:
    queue = kind()
    for number in range(3):
        queue.put(number)
    fork(queue.shutdown).result()
    for put in (lambda: queue.put(1), lambda: queue.put_nowait(1), lambda: asyncio.run(queue.aput(1))):
        with pytest.raises(QueueShutDown):
            put()
    assert [queue.get(), queue.get_nowait(), asyncio.run(queue.aget())] == [0, 1, 2]
    for get in (queue.get, queue.get_nowait, lambda: queue.get(timeout=5), lambda: asyncio.run(queue.aget())):
        with pytest.raises(QueueShutDown) as caught:
            get()
    assert isinstance(caught.value, ProcoroError)
    assert isinstance(caught.value, getattr(standard, "ShutDown", Exception))
    queue.shutdown()


@with_timeouts
def test_shut_down_at_once_drops_what_is_in_it(kind: Any, fork: Fork) -> None:
    queue = kind()
    for number in range(3):
        queue.put(number)
    fork(queue.shutdown, True).result()
    assert queue.qsize() == 0
    with pytest.raises(QueueShutDown):
        queue.get()


def shut(ask: Callable[[], object]) -> str:
    try:
        ask()
    except QueueShutDown:
        return "shut down"
    return "went on"


@pytest.mark.parametrize("immediate", [False, True])
def test_shutting_down_wakes_who_waits(immediate: bool, fork: Fork) -> None:
    empty, full = Queue[int](), Queue[int](1)
    full.put(1)
    children = [fork(shut, empty.get), fork(shut, empty.get), fork(shut, lambda: full.put(1))]
    for child in children:
        asleep(child)
    empty.shutdown(immediate)
    full.shutdown(immediate)
    assert [child.result() for child in children] == ["shut down"] * 3


def test_shutting_down_at_once_ends_a_join(fork: Fork) -> None:
    queue: JoinableQueue[int] = JoinableQueue()
    queue.put(1)
    child = fork(queue.join)
    asleep(child)
    queue.shutdown(immediate=True)
    child.result()


# ---------------------------------------------------------------------------------------------- JoinableQueue


def test_join_waits_for_the_work_and_not_for_the_taking(fork: Fork, gate: Gate) -> None:
    queue: JoinableQueue[int] = JoinableQueue()
    queue.join()
    cells = Cells()

    def work() -> None:
        for _ in range(3):
            queue.get()
            gate.pass_through()
            cells[0] += 1
            queue.task_done()

    for number in range(3):
        queue.put(number)
    worker, joiner = fork(work), fork(lambda: (queue.join(), cells[0])[1])
    asleep(joiner)
    gate.open(3)
    assert joiner.result() == 3
    queue.join()
    worker.result()


def test_task_done_is_said_once_for_each_item() -> None:
    queue: JoinableQueue[int] = JoinableQueue()
    with pytest.raises(ValueError, match="task_done"):
        queue.task_done()
    queue.put(1)
    queue.get()
    queue.task_done()
    with pytest.raises(ValueError, match="task_done"):
        queue.task_done()


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_join_tells_that_a_consumer_died_at_its_work(how: str, fork: Fork, gate: Gate) -> None:
    queue: JoinableQueue[int] = JoinableQueue()
    cells = Cells()

    def work() -> None:
        queue.get()
        cells[0] = 1
        if how == "killed":
            gate.pass_through()

    queue.put(1)
    worker = fork(work)
    cells.wait(0)
    if how == "killed":
        joiner = fork(queue.join)
        asleep(joiner)
        worker.kill()
        with pytest.raises(ConsumerDied, match=str(worker.pid)):
            joiner.result()
    worker.wait()
    with pytest.raises(ConsumerDied, match=str(worker.pid)):
        queue.join()
    with pytest.raises(ConsumerDied):
        asyncio.run(queue.ajoin())


def test_who_dies_after_its_work_is_no_trouble(fork: Fork) -> None:
    queue: JoinableQueue[int] = JoinableQueue()

    def work() -> None:
        queue.get()
        queue.task_done()
        os.kill(os.getpid(), 9)

    for number in range(3):
        queue.put(number)
        fork(work).wait()
    queue.join()


def test_another_may_say_that_it_is_done(fork: Fork) -> None:
    """As in multiprocessing: who got it and who says it may be two processes."""
    queue: JoinableQueue[int] = JoinableQueue()
    queue.put(1)
    queue.get()
    fork(queue.task_done).result()
    queue.join()


# ---------------------------------------------------------------------------------------------- awaiting


@every_loop
@every_queue
def test_the_loop_goes_on_while_a_task_waits_for_an_item(kind: Any, run: Run[int], fork: Fork, gate: Gate) -> None:
    queue = kind()

    def put() -> None:
        gate.pass_through()
        queue.put(7)
        gate.pass_through()

    child = fork(put)
    assert run(meanwhile(queue.aget(), gate.open)) == 7
    gate.open()
    child.result()


async def ends(queues: list[Any]) -> list[str]:
    """How `aget` ends, at the same time for all."""
    found = await asyncio.gather(*(queue.aget() for queue in queues), return_exceptions=True)
    return [type(one).__name__ for one in found]


@every_loop
def test_a_death_wakes_who_awaits_an_item(run: Run[list[str]], fork: Fork, gate: Gate) -> None:
    queues = [kind() for kind in QUEUES]
    child = fork(gate.pass_through)
    gate.reached()
    assert run(meanwhile(ends(queues), child.kill)) == ["QueueAbandoned"] * len(queues)


@every_loop
def test_the_loop_goes_on_while_a_task_waits_for_room(run: Run[None], fork: Fork, gate: Gate) -> None:
    queue: Queue[int] = Queue(1)
    queue.put(1)

    def get() -> int:
        gate.pass_through()
        return queue.get()

    child = fork(get)
    run(meanwhile(queue.aput(2), gate.open))
    assert child.result() == 1 and queue.get() == 2
    queue.put(1)
    with pytest.raises(standard.Full):
        run(queue.aput(2, timeout=0.05))


@every_loop
def test_the_loop_goes_on_while_a_task_joins(run: Run[None], fork: Fork, gate: Gate) -> None:
    queue: JoinableQueue[int] = JoinableQueue()
    queue.put(1)

    def work() -> None:
        queue.get()
        gate.pass_through()
        queue.task_done()

    child = fork(work)
    run(meanwhile(queue.ajoin(), gate.open))
    child.result()


@every_loop
@every_queue
def test_tasks_and_processes_share_a_queue(kind: Any, run: Run[list[int]], fork: Fork) -> None:
    queue = kind()
    child = fork(shares.put_all, queue, [*range(300), None])

    async def main() -> list[int]:
        found = []

        async def consume() -> None:
            while (item := await queue.aget()) is not None:
                found.append(item)
            await queue.aput(None)

        await asyncio.gather(*(consume() for _ in range(3)))
        return found

    assert sorted(run(main())) == [*range(300)]
    child.result()


async def collect(queue: Any) -> list[Any]:
    return [item async for item in queue]


@every_loop
@with_timeouts
def test_async_for_ends_when_the_queue_is_shut_down(kind: Any, run: Run[list[int]], fork: Fork, gate: Gate) -> None:
    queue = kind()

    def put() -> None:
        for number in range(100):
            queue.put(number)
        gate.pass_through()
        queue.shutdown()
        gate.pass_through()

    child = fork(put)
    assert run(meanwhile(collect(queue), gate.open)) == [*range(100)]
    gate.open()
    child.result()


@every_loop
def test_async_for_ends_when_all_others_are_gone(run: Run[list[int]], fork: Fork, gate: Gate) -> None:
    queue: Queue[int] = Queue()
    children = [fork(lambda: (queue.put(7), gate.pass_through())) for _ in range(2)]
    gate.reached(), gate.reached()

    def kill() -> None:
        for child in children:
            child.kill()

    assert run(meanwhile(collect(queue), kill)) == [7, 7]


@every_loop
def test_a_task_that_is_cancelled_takes_nothing(run: Run[list[int]], fork: Fork) -> None:
    """Cancelled at any moment, it either has the item, and returns it, or the item stays."""
    queue: Queue[int] = Queue()
    child = fork(shares.put_all, queue, range(500))

    async def main() -> list[int]:
        found: list[int] = []
        for turn in range(100_000):
            task = asyncio.create_task(queue.aget(timeout=PATIENCE))
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            task.cancel()
            try:
                found.append(await task)
            except asyncio.CancelledError:
                await asyncio.sleep(0)
            if len(found) == 500:
                break
        return found

    assert run(main()) == [*range(500)]
    child.result()


# ---------------------------------------------------------------------------------------------- greenlets, signals


def test_other_greenlets_run_while_one_waits(script: Script) -> None:
    pytest.importorskip("gevent")
    out = script(
        GREENLETS
        + """
    from procoro import JoinableQueue, Queue, SimpleQueue

    for kind in (SimpleQueue, Queue, JoinableQueue):
        queue, answers = kind(), kind()

        def echo():
            while (item := queue.get()) is not None:
                answers.put(item)

        child = forked(echo)
        print(meanwhile(answers.get, lambda: queue.put("x" * 10)))
        queue.put(None)
        os.waitpid(child, 0)

    full = Queue(1)
    full.put(1)
    assert meanwhile(lambda: full.put(2), full.get) is None
    print(full.get())

    joined = JoinableQueue()
    joined.put(1)
    joined.get()
    meanwhile(joined.join, joined.task_done)

    queue, found = Queue(), []
    child = forked(lambda: [queue.put(n) for n in range(300)])
    def consume():
        while len(found) < 300:
            try:
                found.append(queue.get(timeout=0.1))
            except Exception as error:
                assert type(error).__name__ in ("Empty", "QueueAbandoned"), error
    gevent.joinall([gevent.spawn(consume) for _ in range(3)], raise_error=True)
    os.waitpid(child, 0)
    print(sorted(found) == list(range(300)))
    """
    )
    assert out == "xxxxxxxxxx\n" * 3 + "2\nTrue\n"


def test_ctrl_c_ends_a_wait(script: Script) -> None:
    out = script(
        """
        import os, signal, threading
        from procoro import JoinableQueue, Queue, SimpleQueue

        full, joined = Queue(1), JoinableQueue()
        full.put(1)
        joined.put(1)
        empty = Queue()
        for wait in (SimpleQueue().get, empty.get, lambda: full.put(2), joined.join):
            try:
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
                wait()
            except KeyboardInterrupt:
                print("interrupted")
        empty.put(7)
        print(empty.get(), full.get())
        """
    )
    assert out == "interrupted\n" * 4 + "7 1\n"


# ---------------------------------------------------------------------------------------------- forks and threads


@every_queue
def test_a_child_may_use_a_queue_that_threads_of_its_parent_use(kind: Any, fork: Fork) -> None:
    """Forked at any moment of a thread's put or get, the child finds nothing stuck, and nothing is there twice."""
    queue, answers, over = kind(), kind(), threading.Event()
    seen = []

    def put() -> None:
        number = 0
        while not over.is_set():
            queue.put(number)
            number += 1
            seen.append(queue.get())

    thread = threading.Thread(target=put)
    thread.start()
    try:
        for number in range(15):
            fork(answers.put, number).result()
            assert answers.get() == number
    finally:
        over.set()
        thread.join()
    assert seen == [*range(len(seen))] and queue.empty()


# ---------------------------------------------------------------------------------------------- travelling


@every_queue
def test_it_is_sent_to_workers_that_run(kind: Any) -> None:
    with Pool(2) as pool:
        pool.submit(os.getpid).get()
        to, back = kind(), kind()
        results = [pool.submit(shares.put_all, back, [me] * 10) for me in range(4)]
        assert sorted(back.get() for _ in range(40)) == sorted([*range(4)] * 10)
        for result in results:
            result.get(PATIENCE)
        result = pool.submit(shares.get_all, to, len(ITEMS))
        for item in ITEMS:
            to.put(item)
        assert all(map(same, result.get(PATIENCE), ITEMS))


def test_deep_in_arguments_and_in_closures() -> None:
    with Pool(1) as pool:
        queue: Queue[int] = Queue()
        nested = {"a": [(queue,)], "b": queue}

        def closure() -> None:
            queue.put(1)

        pool.apply(closure)
        pool.apply(lambda given: given["a"][0][0].put(2), (nested,))
        assert pool.apply(lambda given: given["b"] is given["a"][0][0], (nested,)) is True
        assert [queue.get(), queue.get()] == [1, 2]
        assert list(pool.imap(lambda one: one.qsize(), [queue] * 3)) == [0] * 3


def test_the_death_of_a_worker_is_the_end_of_a_queue(gate: Gate) -> None:
    with Pool(1) as pool:
        queue: Queue[int] = Queue()

        def put_and_stay() -> None:
            queue.put(1)
            gate.pass_through()

        result = pool.submit(put_and_stay)
        os.kill(gate.reached(), 9)
        assert queue.get() == 1
        assert isinstance(result.exception(PATIENCE), ProcoroError)
        with pytest.raises(EOFError):
            queue.get()


# ---------------------------------------------------------------------------------------------- leftovers


@every_queue
def test_200_come_and_go_and_nothing_stays(kind: Any) -> None:
    def use() -> None:
        queue = kind()
        queue.put(1)
        queue.put(b"x" * 100_000)
        assert queue.get() == 1

    use()
    before = shares.belongings()
    for _ in range(200):
        use()
    assert shares.belongings() == before


def test_nothing_stays_in_a_worker_either() -> None:
    with Pool(1) as pool:

        def once() -> None:
            queue: Queue[int] = Queue()
            pool.apply(shares.put_all, (queue, [1]))
            assert queue.get() == 1

        for _ in range(20):
            once()
        here, there = shares.belongings(), pool.apply(shares.belongings)
        for _ in range(200):
            once()
        assert shares.belongings() == here
        assert pool.apply(shares.belongings) == there


def test_a_program_that_ends_leaves_nothing(script: Script, tmp_path: Path) -> None:
    """`nothing_left_behind` looks at the rest: no process, no shared memory, no warning."""
    script(
        """
        import os
        from procoro import Barrier, Condition, JoinableQueue, Lock, Queue, Semaphore
        keep = [Barrier(2), Condition(), Lock(), Semaphore(), JoinableQueue(), Queue()]
        keep[2].acquire()
        for _ in range(1000):
            keep[-1].put(b"x" * 1000)
        """
    )


def test_a_time_that_is_none_is_refused_though_there_is_room() -> None:
    queue: Queue[int] = Queue()
    with pytest.raises(TypeError, match="timeout must be"):
        queue.put(1, timeout="1")  # type: ignore[arg-type]
    assert queue.empty()


def test_a_time_that_has_passed_is_none_at_all() -> None:
    """As in multiprocessing: of a deadline, this is left a moment late."""
    queue: Queue[int] = Queue(1)
    with pytest.raises(standard.Empty):
        queue.get(timeout=-0.1)
    queue.put(1, timeout=-0.1)
    with pytest.raises(standard.Full):
        queue.put(2, timeout=-0.1)
    assert queue.get(timeout=-0.1) == 1


def test_a_shutdown_that_drops_what_is_left_ends_a_join_at_once(fork: Fork) -> None:
    queue: JoinableQueue[int] = JoinableQueue()
    queue.put(0)
    queue.get()
    queue.task_done()
    queue.put(1)

    def join() -> float:
        queue.join()
        return time.monotonic()

    joining = fork(join)
    asleep(joining)
    began = time.monotonic()
    queue.shutdown(immediate=True)
    assert joining.result() - began < 0.8  # and not when it looks by itself, after 1 s


def test_what_the_dead_have_done_for_others_hides_no_death(fork: Fork) -> None:
    queue: JoinableQueue[int] = JoinableQueue()
    for number in range(3):
        queue.put(number)
    queue.get()
    queue.get()
    fork(queue.task_done).result()  # one of ours; and it is gone
    dead = fork(queue.get)
    dead.result()
    with pytest.raises(ConsumerDied, match=str(dead.pid)):
        fork(queue.join).result()


def _take(queue: JoinableQueue[int]) -> None:
    queue.get()
    queue.task_done()


def test_a_worker_that_gets_a_queue_again_and_again_is_one_consumer() -> None:
    queue: JoinableQueue[int] = JoinableQueue()
    with Pool(1) as pool:
        for number in range(5):
            queue.put(number)
            pool.submit(_take, queue).result()
        assert len(list(queue._table.entries())) == 1
    queue.join()


def test_the_last_task_done_wakes_who_joins() -> None:
    queue: JoinableQueue[int] = JoinableQueue()
    for number in range(2):
        queue.put(number)
    queue.get()
    queue.get()
    words = queue._words
    words[JOINERS_SLEEP] = 1  # somebody waits
    queue.task_done()
    assert (words[JOINERS_SLEEP], words[JOINERS_NEWS]) == (1, 0)
    queue.task_done()
    assert (words[JOINERS_SLEEP], words[JOINERS_NEWS]) == (0, 1)


def test_a_ring_that_the_reader_has_followed_to_is_used_again_and_again() -> None:
    queue: JoinableQueue[bytes] = JoinableQueue()
    item = bytes(1000)
    for _ in range(2):  # it grows, twice
        for _ in range(200):
            queue.put(item)
        for _ in range(200):
            assert queue.get() == item
    end = queue._words[END]
    for _ in range(2000):
        queue.put(item)
        assert queue.get() == item
    assert queue._words[END] == end
    assert 512 * os.fstat(queue._file).st_blocks < 1 << 19, "what it has left is given back"


def test_the_memory_of_a_very_large_ring_is_given_back_as_it_is_read() -> None:
    queue: JoinableQueue[bytes] = JoinableQueue()

    def kept() -> int:
        return os.fstat(queue._file).st_blocks * 512 >> 20

    for _ in range(40):
        queue.put(bytes(8 << 20))
    assert kept() >= 320
    for _ in range(40):
        queue.get()
    assert kept() <= 200, "all of the last ring is still there, read or not"


def test_memory_that_is_given_back_holds_no_item() -> None:
    """A reader that waited in vain gives it back; another may just have put something in."""
    queue: JoinableQueue[bytes] = JoinableQueue()
    queue.put(bytes(8 << 20))
    queue.get()
    for _ in range(2):
        queue.put(b"x" * 100)
        queue._give_back()
        assert queue.get() == b"x" * 100
        queue._give_back()
        assert os.fstat(queue._file).st_blocks * 512 < 1 << 20
