"""Promise 10: locks and queues survive the death of whoever uses them. `soak_ipc_kills.py` is the long version."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from procoro import BoundedSemaphore, Lock, Queue, RLock, Semaphore
from tests.gate import Gate
from tests.promises import shares
from tests.promises.conftest import Script, Start
from tests.promises.forks import PATIENCE, Cells, Fork, asleep
from tests.promises.ipc_kills import QUEUES, soak_lock, soak_queue, soak_semaphore
from tests.promises.looks import kill, wait_until

KILLS, SOME, FEW = 200, 60, 16  # blocking, awaited, in the variants; `soak_ipc_kills.py` has 200 of each

# ---------------------------------------------------------------------------------------------- at random


@pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "awaited"])
def test_holders_are_killed_at_random(awaited: bool) -> None:
    kills = SOME if awaited else KILLS
    figures = soak_lock(Lock, kills, 1 + awaited, awaited=awaited, holders=True)
    assert figures["died holding"] >= kills // 2 and figures["acquired"] >= kills


@pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "awaited"])
@pytest.mark.parametrize("kind", [Lock, RLock, Semaphore, BoundedSemaphore])
def test_whoever_waits_or_holds_is_killed_at_random(kind: Any, awaited: bool) -> None:
    assert soak_lock(kind, FEW, 3 + awaited, awaited=awaited)["acquired"] >= FEW


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_permits_are_never_lost_and_never_too_many(kind: Any) -> None:
    assert soak_semaphore(kind, 2, FEW, 5)["acquired"] >= FEW


@pytest.mark.slow
@pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "awaited"])
def test_readers_and_writers_are_killed_at_random(awaited: bool, tmp_path: Path) -> None:
    kills = SOME if awaited else KILLS
    figures = soak_queue(tmp_path, Queue, kills, 6 + awaited, awaited=awaited)
    assert figures["readers killed"] >= kills // 4 and figures["got"] >= kills


@pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "awaited"])
@pytest.mark.parametrize("name", [name for name in QUEUES if name != "Queue"])
def test_every_queue_outlives_its_readers_and_writers(name: str, awaited: bool, tmp_path: Path) -> None:
    assert soak_queue(tmp_path, QUEUES[name], FEW, 8 + awaited, awaited=awaited)["got"] >= FEW


# ---------------------------------------------------------------------------------------------- one by one


@pytest.mark.parametrize("size", [8, 100_000, 8 << 20])
def test_a_writer_killed_in_the_midst_of_a_put(size: int, fork: Fork) -> None:
    """What had been put is there and whole; the one under way is there whole, or not at all; others go on."""
    queue: Queue[bytes] = Queue()
    for turn in range(10):
        cells = Cells()

        def put(cells: Cells = cells) -> None:
            while cells[0] < 20:
                queue.put(bytes([cells[0]]) * size)
                cells[0] += 1

        child = fork(put)
        cells.wait(0, 1 + turn % 3)
        child.kill()
        queue.put(b"mine")
        found = []
        while (item := queue.get(timeout=PATIENCE)) != b"mine":
            found.append(item)
        assert found == [bytes([number]) * size for number in range(len(found))]
        assert cells[0] <= len(found) <= cells[0] + 1
    assert queue.empty()


@pytest.mark.parametrize("size", [8, 1 << 20])
def test_a_reader_killed_in_the_midst_of_a_get(size: int, fork: Fork) -> None:
    queue: Queue[bytes] = Queue()
    for turn in range(10):
        cells = Cells()

        def get(cells: Cells = cells) -> None:
            while True:
                queue.get()
                cells[0] += 1

        for number in range(8):
            queue.put(bytes([number]) * size)
        child = fork(get)
        cells.wait(0, 1 + turn % 3)
        child.kill()
        queue.put(b"mine")
        found = []
        while (item := queue.get(timeout=PATIENCE)) != b"mine":
            found.append(item)
        assert found == [bytes([number]) * size for number in range(8 - len(found), 8)]
        assert cells[0] <= 8 - len(found) <= cells[0] + 1


def test_a_reader_killed_while_it_waits_takes_nothing_along(fork: Fork) -> None:
    queue: Queue[int] = Queue()
    for number in range(20):
        waiting = [fork(queue.get) for _ in range(2)]
        asleep(waiting[0])
        waiting[0].kill()
        queue.put(number)
        assert waiting[1].result() == number


def test_a_writer_killed_while_it_waits_for_room(fork: Fork) -> None:
    queue: Queue[int] = Queue(1)
    queue.put(0)
    first, second = fork(queue.put, 1), fork(queue.put, 2)
    asleep(first)
    first.kill()
    assert [queue.get(), queue.get(timeout=PATIENCE)] == [0, 2]
    second.result()
    assert queue.empty()


def test_the_parent_is_killed_and_its_children_go_on(start: Start, tmp_path: Path) -> None:
    """It dies holding the lock: what it had put is got, the lock is taken, and the last sees the end."""
    program = start(
        """
        import os, signal, sys
        from procoro import Lock, Queue
        from tests.gate import Turnstile

        lock, queue, answers = Lock(), Queue(), Queue()
        def child(me):
            parent = os.getppid()
            item = queue.get()
            with lock:
                answers.put((me, item))
                if me:
                    queue.put("from 1")
                    os._exit(0)
            found = [answers.get(), answers.get()]
            found.append(queue.get())
            try:
                queue.get()
            except EOFError:
                found.append("end")
            print(sorted(map(repr, found)), flush=True)
            os._exit(0)

        children = []
        for me in range(2):
            if not (pid := os.fork()):
                child(me)
        lock.acquire()
        queue.put("a"), queue.put("a")
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    out, said = program.communicate(timeout=30)
    assert (out, said) == (str(sorted(["(0, 'a')", "(1, 'a')", "'from 1'", "'end'"])) + "\n", "")


def test_a_worker_template_is_killed_and_locks_and_queues_go_on(gate: Gate) -> None:
    from procoro import Pool
    from tests.promises import looks

    lock, queue = Lock(), Queue[int]()
    with Pool(1) as pool:
        pool.submit(shares.hold, lock, gate)
        worker = gate.reached()
        kill(looks.template().pid)
        assert not lock.acquire(timeout=0.05)
        os.kill(worker, signal.SIGKILL)
        assert lock.acquire(timeout=PATIENCE)
        lock.release()
        assert pool.submit(shares.put_all, queue, [1]).get(PATIENCE)
        assert queue.get() == 1


# ---------------------------------------------------------------------------------------------- stopped


@pytest.mark.parametrize("kind", [Lock, RLock, Semaphore, BoundedSemaphore])
def test_a_holder_that_is_stopped_still_holds(kind: Any, fork: Fork, gate: Gate) -> None:
    lock = kind()
    holder = fork(shares.hold, lock, gate)
    gate.reached()
    holder.stop()
    assert not lock.acquire(timeout=0.2)
    gate.open()
    holder.go_on()
    assert lock.acquire(timeout=PATIENCE)
    holder.result()


def test_one_who_is_stopped_while_he_takes_a_permit_holds_up_no_time_out(fork: Fork, gate: Gate) -> None:
    semaphore = Semaphore(1)

    def stop_within() -> None:
        semaphore._lock()
        gate.pass_through()
        semaphore._mutex.release()

    child = fork(stop_within)
    gate.reached()
    child.stop()
    gate.open()
    assert semaphore.acquire(block=False) is False
    assert semaphore.acquire(timeout=0.1) is False
    child.go_on()
    assert semaphore.acquire(timeout=PATIENCE) is True
    child.result()


def test_one_who_waits_and_is_stopped_keeps_nobody_up(fork: Fork) -> None:
    lock, cells = Lock(), Cells()

    def use(place: int) -> None:
        with lock:
            cells[place] = 1

    with lock:
        stopped, waiting = fork(use, 0), fork(use, 1)
        asleep(stopped)
        stopped.stop()
    waiting.result()
    for _ in range(100):
        assert lock.acquire(timeout=PATIENCE)
        lock.release()
    stopped.go_on()
    stopped.result()
    assert (cells[0], cells[1]) == (1, 1)


def test_a_reader_that_is_stopped_keeps_nobody_up(fork: Fork) -> None:
    queue: Queue[int] = Queue()
    stopped = fork(queue.get)
    asleep(stopped)
    stopped.stop()
    for number in range(100):
        queue.put(number)
        assert queue.get(timeout=PATIENCE) == number
    stopped.go_on()
    queue.put(7)
    assert stopped.result() == 7


def test_stopped_and_continued_at_random(fork: Fork) -> None:
    """Nothing is taken from who merely stands still."""
    lock, cells = Lock(), Cells()

    def use() -> None:
        for _ in range(2000):
            with lock:
                before = cells[0]
                cells[0] = before + 1

    children = [fork(use) for _ in range(3)]
    for turn in range(60):
        child = children[turn % 3]
        if child.status is None and os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            os.kill(child.pid, signal.SIGSTOP)
            time.sleep(0.002)
            os.kill(child.pid, signal.SIGCONT)
    for child in children:
        child.result()
    assert cells[0] == 6000


# ---------------------------------------------------------------------------------------------- scarcity

FEW_DESCRIPTORS = """
    import os, resource, sys, threading
    from procoro import Barrier, Condition, Event, JoinableQueue, Lock, Pipe, Queue, RLock, Semaphore, SimpleQueue

    def exhaust(left=0):
        "Until only so many descriptors are free."
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for _ in range(left):
            os.close(taken.pop())
        return taken

    def count():
        return len(os.listdir("/proc/self/fd"))
"""


def test_no_descriptor_is_free_when_one_is_made(script: Script) -> None:
    """It is refused as the system says it, and what it had opened is closed: with descriptors again, all is well."""
    out = script(
        FEW_DESCRIPTORS
        + """
    Lock(), Queue(), Pipe()[0].close()
    kinds = [Lock, RLock, Semaphore, Event, Condition, lambda: Barrier(1), SimpleQueue, Queue, JoinableQueue, Pipe]
    for left in (0, 1, 2):
        taken = exhaust(left)
        for kind in kinds:
            made = []
            try:
                while True:
                    made.append(kind())
            except OSError as error:
                assert error.errno == 24, error
            del made
        for fd in taken:
            os.close(fd)
        if left == 0:
            before = count()
        assert count() == before, (left, count(), before)
    lock, queue = Lock(), Queue()
    with lock:
        queue.put(1)
    print(queue.get())
    """.replace("kinds = [", "import warnings; warnings.simplefilter('ignore', ResourceWarning)\n    kinds = [")
    )
    assert out == "1\n"


def test_no_descriptor_is_free_while_they_are_used(script: Script) -> None:
    """What need not wait works. What must wait either waits or says so, and is as good as before."""
    out = script(
        FEW_DESCRIPTORS
        + """
    lock, queue, bounded, big = Lock(), Queue(), Queue(1), b"x" * (4 << 20)
    gate_r, gate_w = os.pipe()
    if (child := os.fork()) == 0:
        os.close(gate_w)
        os.read(gate_r, 1)
        with lock:
            queue.put("from the child")
        os._exit(0)
    taken = exhaust()
    for _ in range(1000):
        with lock:
            queue.put(1)
        assert queue.get() == 1
    try:
        queue.put(big)  # a larger ring has to be mapped
    except OSError as error:
        assert error.errno == 24 and queue.empty(), error
    else:
        assert queue.get() == big
    bounded.put(1)
    for wait in (lambda: lock.acquire() and lock.acquire(timeout=0.1), lambda: queue.get(timeout=0.1),
                 lambda: bounded.put(2, timeout=0.1)):
        try:
            wait()
        except OSError as error:
            assert error.errno == 24, error
        except Exception as error:
            assert type(error).__name__ in ("Empty", "Full"), error
    lock.release()
    os.write(gate_w, b".")
    os.waitpid(child, 0)
    print(queue.get())
    with lock:
        print(bounded.get())
    """
    )
    assert out == "from the child\n1\n"


def test_a_full_or_missing_shared_memory_folder_has_no_effect(script: Script) -> None:
    mounts = "mount -t tmpfs -o size=4k tmpfs /dev/shm && head -c 4096 /dev/zero > /dev/shm/file"
    if subprocess.run(["unshare", "--mount", "sh", "-c", mounts], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    work = (
        "import os; from procoro import Lock, Pipe, Queue\n"
        "lock, queue, (here, there) = Lock(), Queue(), Pipe()\n"
        "if not (child := os.fork()):\n"
        "    with lock: queue.put(bytes(10 << 20)); there.send(bytes(1 << 20)); os._exit(0)\n"
        "print(len(queue.get()), len(here.recv())); os.waitpid(child, 0); here.close(); there.close()\n"
    )
    out = script(
        """
        import os, subprocess, sys
        program = ["unshare", "--mount", "sh", "-c", sys.argv[1] + ' && exec "$0" -c "$1"', sys.executable]
        os.environ["TMPDIR"] = "/dev/null"
        sys.exit(subprocess.run([*program, sys.argv[2]]).returncode)
        """,
        mounts,
        work,
    )
    assert out == "10485760 1048576\n"


def test_a_hundred_children_come_and_go(fork: Fork) -> None:
    """Nothing that the dead have left piles up, in the lock, the queue or us."""
    lock, queue = Lock(), Queue[int]()

    def use(number: int) -> None:
        lock.acquire()
        queue.put(number)
        os._exit(0)

    for number in range(100):
        if (child := os.fork()) == 0:
            use(number)
        os.waitpid(child, 0)
        assert queue.get(timeout=PATIENCE) == number
        if number == 10:
            before = shares.belongings()
    assert lock.acquire(timeout=PATIENCE)
    assert shares.belongings() == before


def test_a_thread_that_waits_while_the_process_forks(fork: Fork) -> None:
    """The child has not that thread: it neither waits nor holds, and the parent's thread is served all the same."""
    lock, queue, got = Lock(), Queue[int](), []
    lock.acquire()
    threads = [threading.Thread(target=lambda: got.append(queue.get())), threading.Thread(target=lock.acquire)]
    for thread in threads:
        thread.start()
    children = [fork(lambda: (queue.put(7), lock.acquire(False))[1]) for _ in range(5)]
    assert [child.result() for child in children] == [False] * 5
    lock.release()
    for thread in threads:
        thread.join()
    assert got == [7] and [queue.get() for _ in range(4)] == [7] * 4
    wait_until(lambda: not lock.acquire(False), "the thread has it")
