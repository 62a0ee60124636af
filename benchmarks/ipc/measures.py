"""What is measured, each `(make, task) -> figures by name`, alone in a fresh process."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.compare.catalogue import Figures
from benchmarks.ipc.systems import Line, fork

Make = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Task:
    """`seconds`: how long what is timed lasts, about. The rest: of the measures that ask for it."""

    seconds: float
    payload: str = "16 B"
    writers: int = 1
    count: int = 1


PAYLOADS: dict[str, Any] = {
    "16 B": b"0123456789abcdef",
    "dict": {"id": 7, "name": "row 7", "score": 1.0},
    "64 KiB": bytes(64 << 10),
    "8 MiB": bytes(8 << 20),
}
END = b"end"
WARM_UP = 100


class WrongCount(Exception):
    """Not what was put has been got: no figure is worth reporting."""


def throughput(make: Make, task: Task) -> Figures:
    """Writers put for so many seconds; counted until the reader has it all."""
    line: Line = make()
    payload = PAYLOADS[task.payload]
    get = line.reader()
    go, counts = fork.Event(), fork.RawArray("q", task.writers)
    children = [fork.Process(target=_write, args=(line, payload, task, go, counts, n)) for n in range(task.writers)]
    for child in children:
        child.start()
    for _ in range(WARM_UP if len(payload) < 1 << 20 else 4):
        get()
    go.set()
    began, found, ended = time.perf_counter(), 0, 0
    while ended < task.writers:
        item = get()
        if len(item) == 3 and item == END:
            ended += 1
        else:
            found += 1
    took = time.perf_counter() - began
    for child in children:
        child.join()
    if item != END or found != sum(counts):
        raise WrongCount(f"{found} items of {sum(counts)}")
    size = len(payload) if isinstance(payload, bytes) else 0
    return {"rate": found / took, "gb_s": found * size / took / 1e9, "calls": found}


def _write(line: Line, payload: Any, task: Task, go: Any, counts: Any, me: int) -> None:
    put, count = line.writer(), 0
    warm_up = WARM_UP if len(payload) < 1 << 20 else 4
    for number in range(warm_up):
        if number % task.writers == me:
            put(payload)
    go.wait()
    end = time.perf_counter() + task.seconds
    while time.perf_counter() < end:
        for _ in range(10 if len(payload) < 1 << 20 else 1):
            put(payload)
            count += 1
    counts[me] = count
    put(END)
    line.finish()


def round_trip(make: Make, task: Task) -> Figures:
    """There over one queue, back over another; one after the other."""
    to, back = make(), make()
    child = fork.Process(target=_echo, args=(to, back))
    get = back.reader()
    child.start()
    put = to.writer()
    took = []
    for _ in range(WARM_UP + task.count):
        began = time.perf_counter()
        put(7)
        get()
        took.append(time.perf_counter() - began)
    put(None)
    child.join()
    took = sorted(took[WARM_UP:])
    return {"p50_us": took[len(took) // 2] * 1e6, "p99_us": took[len(took) * 99 // 100] * 1e6, "calls": len(took)}


def _echo(to: Line, back: Line) -> None:
    get, put = to.reader(), back.writer()
    while (item := get()) is not None:
        put(item)


def lock_pair(make: Make, task: Task) -> Figures:
    """Take it and let it go, nobody else there."""
    lock, count = make(), 0
    began = time.perf_counter()
    end = began + task.seconds
    while (now := time.perf_counter()) < end:
        for _ in range(100):
            lock.acquire()
            lock.release()
        count += 100
    return {"pair_us": (now - began) / count * 1e6, "calls": count}


def lock_contended(make: Make, task: Task) -> Figures:
    """Two processes take it and let it go, as fast as they can."""
    lock, counts, go = make(), fork.RawArray("q", 2), fork.Barrier(2)
    children = [fork.Process(target=_contend, args=(lock, counts, go, me, task.seconds)) for me in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return {"rate": sum(counts) / task.seconds, "least": min(counts) / task.seconds, "calls": sum(counts)}


def _contend(lock: Any, counts: Any, go: Any, me: int, seconds: float) -> None:
    count = 0
    go.wait()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(20):
            with lock:
                count += 1
    counts[me] = count


def barrier(make: Make, task: Task) -> Figures:
    """Two processes meet so many times."""
    meeting = make()
    child = fork.Process(target=_meet, args=(meeting, 1 + task.count))
    child.start()
    meeting.wait()
    began = time.perf_counter()
    _meet(meeting, task.count)
    took = time.perf_counter() - began
    child.join()
    return {"turn_us": took / task.count * 1e6, "calls": task.count}


def _meet(meeting: Any, times: int) -> None:
    for _ in range(times):
        meeting.wait()


def joined(make: Make, task: Task) -> Figures:
    """So many items are put and worked on, until all are done."""
    queue = make()
    child = fork.Process(target=_work, args=(queue, task.count))
    child.start()
    began = time.perf_counter()
    for number in range(task.count):
        queue.put(number)
    queue.join()
    took = time.perf_counter() - began
    child.join()
    return {"rate": task.count / took, "calls": task.count}


def _work(queue: Any, count: int) -> None:
    for _ in range(count):
        queue.get()
        queue.task_done()


def processes(make: Make, task: Task) -> Figures:
    """So many are started and then joined, when one has come and gone before: `first_ms`."""
    process = make()
    began = time.perf_counter()
    _live(process, 1)
    first = time.perf_counter()
    _live(process, task.count)
    return {"first_ms": (first - began) * 1e3, "all_ms": (time.perf_counter() - first) * 1e3}


def _live(process: Any, count: int) -> None:
    running = [process(target=int) for _ in range(count)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    if any(one.exitcode for one in running):
        raise WrongCount(f"exit codes {[one.exitcode for one in running]}")


def descriptors(make: Make, task: Task) -> Figures:
    """How many stay open for each object."""
    kind = make()
    kind()
    before = len(os.listdir("/proc/self/fd"))
    kept = [kind() for _ in range(20)]
    return {"descriptors": (len(os.listdir("/proc/self/fd")) - before) / len(kept)}
