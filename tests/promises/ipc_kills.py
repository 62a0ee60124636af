"""Who uses a lock or a queue is killed at random moments, again and again: what must hold, and who checks it.

Shared by a short test and by `soak_ipc_kills.py`.
"""

import asyncio
import os
import random
import signal
import struct
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from procoro import JoinableQueue, Queue, SimpleQueue
from tests.promises.forks import PATIENCE, Cells, Child, state
from tests.promises.looks import wait_until

HOLDER, WRONG, DONE, INHERITED, DEAD_READERS, FIRST_INSIDE = 0, 1, 2, 3, 4, 8
TASKS = 3  # in a process that awaits
LIVE = 4  # processes at a time


def has_ended(pid: int) -> bool:
    """Is it a zombie, or less?"""
    try:
        return state(pid) in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def come_to_end(pids: Iterable[int], count: int = 1) -> bool:
    """Do so many of them end? Who was killed does within a moment, and does nothing more before."""
    deadline = time.monotonic() + 5
    while sum(map(has_ended, pids)) < count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0002)
    return True


def killed_at_random(
    kills: int,
    chance: random.Random,
    start: Callable[[], Child],
    progress: Callable[[], int],
    *,
    pick: Callable[[], int] = int,
    lost: Callable[[Child], object] = id,
) -> Iterator[int]:
    """Keep LIVE children running, and kill one after another; after each death the others must get on.

    `pick` may name the pid that is to be hit (0: any); `lost` is told of each that is dead. Yields after each death.
    """
    running = [start() for _ in range(LIVE)]
    try:
        for turn in range(kills):
            time.sleep(chance.choice((0.0, 0.0005, 0.005, 0.02)) * chance.random())
            wanted = pick()
            victim = next((child for child in running if child.pid == wanted), None) or chance.choice(running)
            if chance.random() < 0.2:
                os.kill(victim.pid, signal.SIGSTOP)
                time.sleep(0.002 * chance.random())
            victim.kill()
            before = progress()
            wait_until(lambda before=before: progress() > before + 2, "the others get on", PATIENCE)  # type: ignore[misc]
            victim.end()
            running.remove(victim)
            lost(victim)
            running.append(start())
            yield turn
    finally:
        for child in running:
            child.end()


# ---------------------------------------------------------------------------------------------- locks


def soak_lock(kind: Any, kills: int, seed: int, *, awaited: bool = False, holders: bool = False) -> dict[str, int]:
    """One lock, never held twice, never lost; with `holders`, those are killed who hold it. The figures."""
    chance, lock, cells = random.Random(seed), kind(), Cells()
    seeds = iter(range(seed * 1_000_000, (seed + 1) * 1_000_000))

    def holder() -> int:
        for _ in range(100_000 if holders else 0):
            if pid := cells[HOLDER] // 10:
                return pid
        return 0

    def start() -> Child:
        return Child(_awaits if awaited else _blocks, lock, cells, random.Random(next(seeds)))

    for _ in killed_at_random(kills, chance, start, lambda: cells[DONE], pick=holder):
        assert not cells[WRONG], f"seed {seed}: held twice"
    assert lock.acquire(timeout=PATIENCE), f"seed {seed}: lost"
    assert not cells[WRONG], f"seed {seed}: held twice"
    return {"kills": kills, "acquired": cells[DONE], "died holding": cells[INHERITED]}


def _enter(lock: Any, cells: Cells, me: int) -> None:
    before = cells[HOLDER]
    if before:
        if before // 10 == me // 10 or not come_to_end([before // 10]):
            cells[WRONG] += 1
        elif hasattr(lock, "owner_died"):
            cells[WRONG] += lock.owner_died is None
        cells[INHERITED] += 1
    cells[HOLDER] = me


def _leave(cells: Cells, me: int) -> None:
    if cells[HOLDER] != me:
        cells[WRONG] += 1
    cells[DONE] += 1
    cells[HOLDER] = 0


def _blocks(lock: Any, cells: Cells, chance: random.Random) -> None:
    me = 10 * os.getpid()
    while True:
        lock.acquire()
        _enter(lock, cells, me)
        for _ in range(chance.choice((0, 10, 1000))):
            if cells[HOLDER] != me:
                cells[WRONG] += 1
        _leave(cells, me)
        lock.release()


def _awaits(lock: Any, cells: Cells, chance: random.Random) -> None:
    async def use(me: int) -> None:
        while True:
            async with lock:
                _enter(lock, cells, me)
                for _ in range(chance.choice((0, 1, 5))):
                    await asyncio.sleep(0)
                _leave(cells, me)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(use(10 * os.getpid() + task) for task in range(TASKS)))

    asyncio.run(main())


def soak_semaphore(kind: Any, permits: int, kills: int, seed: int) -> dict[str, int]:
    """Never held by more than there are permits; in the end, all permits are there."""
    chance, semaphore, cells = random.Random(seed), kind(permits), Cells(FIRST_INSIDE + 2 * (LIVE + kills))
    places = iter(range(LIVE + kills))
    most = 2 * (LIVE + kills)

    def inside(place: int, chance: random.Random) -> None:
        mine = FIRST_INSIDE + 2 * place
        while True:
            with semaphore:
                cells[mine + 1] += 1
                cells[mine] = os.getpid()
                first, second = cells.cut(FIRST_INSIDE, most), cells.cut(FIRST_INSIDE, most)
                # What was the same twice was so at one moment. (The dead are still in there.)
                pids = {pid for pid in first[::2] if pid} - {os.getpid()}
                if first == second and not come_to_end(pids, len(pids) + 1 - permits):
                    cells[WRONG] = 1
                for _ in range(chance.choice((0, 100))):
                    pass
                cells[DONE] += 1  # some may be lost: it tells only that there is progress
                cells[mine] = 0

    by_pid: dict[int, int] = {}

    def start() -> Child:
        place = next(places)
        child = Child(inside, place, random.Random(chance.random()))
        by_pid[child.pid] = place
        return child

    def lost(child: Child) -> None:
        cells[FIRST_INSIDE + 2 * by_pid[child.pid]] = 0

    for _ in killed_at_random(kills, chance, start, lambda: cells[DONE], lost=lost):
        assert not cells[WRONG], f"seed {seed}: too many hold it"
    got = sum(semaphore.acquire(timeout=2.0) for _ in range(permits))
    assert got == permits and not semaphore.acquire(False), f"seed {seed}: {got} of {permits} permits are left"
    return {"kills": kills, "acquired": cells[DONE]}


# ---------------------------------------------------------------------------------------------- queues

NOTE = struct.Struct("<qqq")  # who notes it, producer, number
ITEM = struct.Struct("<qqI")  # producer, number, checksum
SIZES = (8, 100, 1_000, 10_000, 70_000, 1 << 20, 8 << 20)
WEIGHTS = (400, 200, 200, 100, 50, 10, 2)
TORN = -1
OUTSTANDING = 150  # items, from which on a writer waits, so that memory is bounded


class Journal:
    """Notes in a file, each written whole before its writer goes on, so that they outlive it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC)

    def note(self, me: int, producer: int, number: int) -> None:
        os.write(self._file, NOTE.pack(me, producer, number))

    def count(self) -> int:
        return os.fstat(self._file).st_size // NOTE.size

    def notes(self) -> list[tuple[int, int, int]]:
        data = os.pread(self._file, os.fstat(self._file).st_size, 0)
        return [NOTE.unpack_from(data, at) for at in range(0, len(data), NOTE.size)]

    def close(self) -> None:
        os.close(self._file)


@contextmanager
def journals(folder: Path, seed: int) -> Iterator[tuple[Journal, Journal]]:
    with ExitStack() as stack:
        both = Journal(folder / f"put-{seed}"), Journal(folder / f"got-{seed}")
        for one in both:
            stack.callback(one.close)
        yield both


class Traffic:
    """What writers put and readers get, and the books of both."""

    def __init__(self, queue: Any, put: Journal, got: Journal, cells: Cells, seed: int) -> None:
        self.queue, self.put, self.got, self.cells, self.seed = queue, put, got, cells, seed
        self._noise = random.Random(seed).randbytes(2 * SIZES[-1])

    def item(self, producer: int, number: int, chance: random.Random) -> Any:
        size = chance.choices(SIZES, WEIGHTS)[0]
        at = chance.randrange(SIZES[-1])
        body = self._noise[at : at + size]
        check = zlib.crc32(body)
        return ITEM.pack(producer, number, check) + body if number % 2 else (producer, number, check, body)

    def took(self, me: int, item: Any) -> None:
        if type(item) is bytes:
            producer, number, check = ITEM.unpack_from(item)
            body = item[ITEM.size :]
        else:
            producer, number, check, body = item
        self.got.note(me, producer, number if zlib.crc32(body) == check else TORN)

    def may_put(self) -> bool:
        return self.put.count() - self.got.count() < OUTSTANDING + self.cells[DEAD_READERS]

    def write(self, me: int) -> None:
        chance, number = random.Random(me), 0
        while True:
            if not self.may_put():
                time.sleep(0.0005)
                continue
            self.queue.put(self.item(me, number, chance))
            self.put.note(me, me, number)
            number += 1

    def read(self, me: int) -> None:
        while (item := self.queue.get()) is not None:
            self.took(me, item)
            if isinstance(self.queue, JoinableQueue):
                self.queue.task_done()

    async def awrite(self, me: int) -> None:
        chance, number = random.Random(me), 0
        while True:
            if not self.may_put():
                await asyncio.sleep(0.0005)
                continue
            await self.queue.aput(self.item(me, number, chance))
            self.put.note(me, me, number)
            number += 1

    async def aread(self, me: int) -> None:
        while (item := await self.queue.aget()) is not None:
            self.took(me, item)
        await self.queue.aput(None)  # another task may wait

    def run_tasks(self, use: Callable[[int], Any], me: int) -> None:
        async def main() -> None:
            await asyncio.gather(*(use(me + task) for task in range(2)))

        asyncio.run(main())


def soak_queue(folder: Path, make: Any, kills: int, seed: int, *, awaited: bool = False) -> dict[str, int]:
    """Two write, two read, one dies after the other. Raises for the first thing that is wrong; the figures."""
    chance, cells = random.Random(seed), Cells()
    names = iter(range(10, 1_000_000_000, 10))
    roles: dict[int, str] = {}
    living: Counter[str] = Counter()
    with journals(folder, seed) as (put, got):
        traffic = Traffic(make(), put, got, cells, seed)
        use = {"writer": traffic.write, "reader": traffic.read}
        if awaited:
            use = {
                "writer": lambda me: traffic.run_tasks(traffic.awrite, me),
                "reader": lambda me: traffic.run_tasks(traffic.aread, me),
            }

        def start() -> Child:
            role = min(("writer", "reader"), key=lambda one: living[one])
            child = Child(use[role], next(names))
            roles[child.pid] = role
            living[role] += 1
            return child

        killed: Counter[str] = Counter()

        def lost(child: Child) -> None:
            role = roles[child.pid]
            living[role] -= 1
            killed[role] += 1
            cells[DEAD_READERS] = killed["reader"]

        for _ in killed_at_random(kills, chance, start, got.count, lost=lost):
            pass
        _drain(traffic)
        return {"kills": kills, **_check(put.notes(), got.notes(), killed, 2 if awaited else 1, seed)}


def _drain(traffic: Traffic) -> None:
    """Take what is left: every process that had it is dead by now."""
    while not traffic.queue.empty():
        item = traffic.queue.get()
        if item is not None:
            traffic.took(0, item)


def _check(
    put: list[tuple[int, int, int]], got: list[tuple[int, int, int]], killed: Counter[str], at_once: int, seed: int
) -> dict[str, int]:
    assert all(number != TORN for _, _, number in got), f"seed {seed}: torn"
    items = [(producer, number) for _, producer, number in got]
    twice = [item for item, times in Counter(items).items() if times > 1]
    assert not twice, f"seed {seed}: twice: {twice[:5]}"
    seen: dict[tuple[int, int], int] = defaultdict(lambda: -1)
    for me, producer, number in got:
        assert number > seen[me, producer], f"seed {seed}: {me} got {number} of {producer} after {seen[me, producer]}"
        seen[me, producer] = number
    was_put = {(producer, number) for _, producer, number in put}
    missing, unsaid = was_put - set(items), set(items) - was_put
    # The four who are killed at the end may have taken one more, too.
    assert len(missing) <= at_once * (killed["reader"] + LIVE), f"seed {seed}: {len(missing)} are missing"
    per_producer = Counter(producer for producer, _ in unsaid)
    assert all(times == 1 for times in per_producer.values()), f"seed {seed}: got what nobody had put"
    return {"put": len(was_put), "got": len(items), "missing": len(missing), "readers killed": killed["reader"]}


QUEUES: dict[str, Callable[[], Any]] = {
    "SimpleQueue": SimpleQueue,
    "Queue": Queue,
    "Queue(5)": lambda: Queue(5),
    "JoinableQueue": JoinableQueue,
}
