"""One seed, from its first pool to the look at what is left. The program is the process: see `__main__.py`."""

import contextlib
import faulthandler
import gc
import logging
import os
import random
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from procoro import Pool
from procoro.engines.local import LocalEngine
from procoro.scheduler import scheduler
from tests.chaos import given, kinds, notes
from tests.chaos.books import Books, Setting
from tests.chaos.check import Check
from tests.chaos.user import PATIENCE, User
from tests.chaos.world import World, children

GRACE = 20.0  # seconds in which what is on its way out may leave


def live(seed: int, calls: int, limit: float) -> int:
    """Live through one seed; the exit code. What is wrong is said on the standard output."""
    report = os.fdopen(os.dup(1), "w")
    books, world = Books(), World(seed, calls)
    watch(limit, report, books)
    set_the_scene()
    listen(books)
    if random.Random(f"slow motion {seed}").random() < 0.5:
        slow_motion()
    chance = random.Random(seed)
    before = descriptors()
    began = time.monotonic()
    world.start()
    rounds = chance.choice([1, 2, 3])
    for number in range(rounds):
        one_round(f"{seed}/{number}", chance, calls // rounds, books, world)
    world.end()
    os.unlink(f"{notes.folder()}/running")
    with contextlib.suppress(AssertionError):  # a generator is closed by its feeder, after the pool has ended
        until(lambda: books.closings.count("opened") == books.closings.count("closed"), "inputs are closed")
    figures = Check(books, world, notes.read(), Path(f"{notes.folder()}/printed").read_text()).all()
    for call in books.calls.values():
        call.endings.clear()
    books.calls.clear()
    with contextlib.suppress(AssertionError):
        until(lambda: not left(before), "nothing is left")
    for words in left(before):
        books.wrong(f"left: {words}")
    said = ", ".join(f"{value} {name}" for name, value in figures.items() if value)
    print(f"seed {seed}: {said} in {time.monotonic() - began:.1f} s: {'RED' if books.faults else 'green'}", file=report)
    for words in books.faults[:30]:
        print(f"  {words}", file=report)
    report.flush()
    return bool(books.faults)


def one_round(name: str, chance: random.Random, calls: int, books: Books, world: World) -> None:
    """Some pools, and some users of them."""
    settings = [new_pool(chance) for _ in range(chance.choice([1, 1, 2]))]
    count = chance.choice([1, 2, 3, 5])
    numbers = range(len(books.settings) * 8, len(books.settings) * 8 + count)
    books.settings += settings
    users = [User(1 + number, name, calls // count, settings, books) for number in numbers]
    for user in users:
        user.start()
    after = {id(setting): chance.random() * calls for setting in settings if setting.ending == "terminated"}
    already = len(books.calls)
    for setting in settings:
        if setting.ending == "terminated":
            while len(books.calls) - already < after[id(setting)] and any(user.is_alive() for user in users):
                time.sleep(0.005)
            setting.pool.terminate()
    for user in users:
        user.join()
    with world.at_it:
        for setting in settings:
            if setting.ending != "terminated":
                try:
                    last_calls(setting, books)
                except Exception as error:
                    books.wrong(f"the last calls end with {error!r}")
    gc.collect()  # streams that were left in a frame of a traceback
    for setting in settings:
        try:
            end(setting, books)
        except Exception as error:
            books.wrong(f"a pool does not end well: {error!r}")


def new_pool(chance: random.Random) -> Setting:
    timeout = chance.choice([None, kinds.LIMIT, kinds.LIMIT])
    retries = chance.choice([0, 0, 0, 1, 2])
    memory = chance.choice([None, "200 MiB"])
    most_calls = chance.choice([None, None, None, 100, 12])
    initializer = chance.choice([None, None, (time.sleep, (0.01,))])
    pool = Pool(
        chance.randint(1, 4),
        *(initializer or ()),
        maxtasksperchild=most_calls,
        timeout=timeout,
        retries=retries,
        memory_limit=memory,
    )
    ending = chance.choice(["closed", "closed", "exited", "forgotten", "terminated"])
    return Setting(pool, timeout, retries, memory, most_calls, ending)


def last_calls(setting: Setting, books: Books) -> None:
    """All is quiet: the pool holds nothing any more, and serves."""
    conductor = setting.pool._conductor
    scheduler = conductor._scheduler

    def idle() -> bool:
        gc.collect()
        books_are_empty = not scheduler.streams.by_number and not scheduler.backlog.lanes and not conductor._streams
        windows = (scheduler.streams.generators, scheduler.streams.sequences)
        books_are_empty = books_are_empty and all(window.items == window.sharers == 0 for window in windows)
        return books_are_empty and not scheduler.busy() and scheduler.streams.running == 0

    try:
        until(idle, f"the pool is idle: {scheduler.streams.by_number}")
    except AssertionError as error:
        books.wrong(str(error))
    books.require(abs(scheduler.streams.nbytes) < 1, f"{scheduler.streams.nbytes} bytes are held for nothing")
    values = setting.pool.map_async(kinds.small, range(200)).get(PATIENCE)
    books.require(values == [kinds.small(number) for number in range(200)], "the last calls have other values")
    result = setting.pool.submit(given.Boxed, 1, b"x" * 100_000).result(PATIENCE)
    books.require(result.load == b"x" * 100_000, "the last large call has another value")


def end(setting: Setting, books: Books) -> None:
    pool: Any = setting.pool
    setting.pool = None  # type: ignore[assignment]
    if setting.ending == "closed":
        pool.close()
        pool.join()
    elif setting.ending == "exited":
        with pool:
            pass
    elif setting.ending == "forgotten":
        ended = pool._conductor.ended
        del pool
        gc.collect()
        books.require(ended.wait(PATIENCE), "a forgotten pool does not end")


# -------------------------------------------------------------------------------------------- around it


def watch(limit: float, report: Any, books: Books) -> None:
    """If nothing has happened for so many seconds: say where everybody stands, and end. (Slow is not hung.)"""

    def look() -> None:
        seen, since, asked = -1, time.monotonic(), 0
        while True:
            time.sleep(0.5)
            starts = notes.count()
            asked = max(asked, len(books.calls))  # in the end they are struck off
            if starts > 10 * (100 + asked):
                bark(report, f"RUNS AWAY: {asked} calls were begun {starts} times")
            now = starts + sum(1 + len(call.endings) for call in list(books.calls.values()))
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() > since + limit:
                bark(report, f"HANGS: nothing has happened for {limit:.0f} s")

    threading.Thread(target=look, name="watchdog", daemon=True).start()


def bark(report: Any, why: str) -> None:
    print(why, file=report, flush=True)
    faulthandler.dump_traceback(report, all_threads=True)
    for pool in [one for one in gc.get_objects() if isinstance(one, Pool)]:
        conductor = pool._conductor
        fleet, streams = conductor._scheduler.fleet, conductor._scheduler.streams
        print(f"{pool!r}: over {conductor._scheduler.over}, ended {conductor.ended.is_set()}", file=report)
        for worker in list(fleet.workers.values()):
            print("  worker", {name: getattr(worker, name) for name in worker.__slots__}, file=report)
            print("  spans", [[one.piece, one.recorded, one.limit] for one in worker.spans.values()], file=report)
        for stream in list(streams.by_number.values()):
            shown = {name: getattr(stream, name) for name in stream.__slots__ if name != "held"}
            print("  stream", shown, file=report)
    report.flush()
    os._exit(3)


def set_the_scene() -> None:
    """What calls print goes into a file, and so does what their workers complain of."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, number in [("printed", 1), ("complaints", 2)]:
        fd = os.open(f"{notes.folder()}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(fd, number)
        os.close(fd)
    Path(f"{notes.folder()}/running").touch()
    sys.setswitchinterval(0.0005)


def slow_motion() -> None:
    """Nothing is taken back before a call is condemned, and its kill comes late."""
    scheduler.LONG = scheduler.SOONER = PATIENCE
    engine: Any = LocalEngine
    kill = engine.kill

    def late(self: LocalEngine, number: int) -> None:
        time.sleep(0.01)  # time for the next call to begin
        kill(self, number)

    engine.kill = late


def listen(books: Books) -> None:
    """What procoro logs: callbacks that raise are known, a bug of its own is not."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "a bug in procoro" in record.getMessage():
                trace = "".join(traceback.format_exception(record.exc_info[1])) if record.exc_info else ""
                books.wrong(f"{record.getMessage()}\n{trace}")

    logger = logging.getLogger("procoro")
    logger.handlers[:] = [Listener()]
    logger.propagate = False


def until(condition: Callable[[], Any], what: str, timeout: float = GRACE) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.005)


def descriptors() -> list[str]:
    """What this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
    return found


def left(before: list[str]) -> list[str]:
    """What should not be here any more, in words."""
    gc.collect()
    found = [f"thread {one.name}" for one in threading.enumerate() if one.name not in ("MainThread", "watchdog")]
    found += [f"child {pid}" for pid in children(os.getpid())]
    found += [f"process {pid} {_command(pid)}" for pid in marked()]
    found += [f"file {path}" for path in Path("/dev/shm").glob("procoro*")]
    after = descriptors()
    if len(after) > len(before) or any("memfd" in one for one in after):
        found.append(f"descriptors {sorted(set(after) - set(before))}")
    return found


def marked() -> Iterator[int]:
    """All processes that come from here, also the orphans."""
    mark = f"{notes.FOLDER}={notes.folder()}".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if int(pid) != os.getpid() and mark in Path(f"/proc/{pid}/environ").read_bytes():
                yield int(pid)


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text()[:60]
    return ""
