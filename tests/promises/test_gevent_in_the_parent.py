"""A program that uses gevent itself: with nothing patched, and with all of it patched before procoro is imported."""

import pytest

from tests.promises.conftest import Script, Start

HEAD = """
import os, signal, sys, threading, time
import gevent
from procoro import Pool
from procoro.errors import WorkerDied
from tests.promises import calls, crowds, moods

def ticking(function):
    '''Its value, and whether another greenlet went on meanwhile.'''
    ticks = []
    def tick():
        while True:
            gevent.sleep(0.002)
            ticks.append(1)
    other = gevent.spawn(tick)
    value = gevent.spawn(function).get()
    other.kill()
    return value, len(ticks) > 10
"""
PATCHED = "from gevent import monkey\nmonkey.patch_all()\n" + HEAD

every_parent = pytest.mark.parametrize("head", [HEAD, PATCHED], ids=["plain", "patched"])
every_model = pytest.mark.parametrize("model", ["serial", "threads", "greenlets", "asyncio", None])

USES = """
model = {model!r}
add = crowds.fitting(model, crowds.add) if model != "serial" else crowds.add

def numbers():
    for x in range(2000):
        if x % 500 == 0: time.sleep(0.01)
        yield x

called = []
with Pool(2, model=model) as pool:
    print(pool.map(add, range(1000)) == list(range(1000)))
    print(pool.submit(add, 1, b=2).get(20), pool.apply(add, (3,), {{"c": 4}}))
    print(list(pool.imap(add, numbers())) == list(range(2000)))
    print(sorted(pool.imap_unordered(add, numbers())) == list(range(2000)))
    result = pool.apply_async(add, (5,), callback=called.append, error_callback=called.append)
    result.wait(20)
    fails = pool.apply_async(moods.raise_it, (ValueError("no"),), callback=print, error_callback=called.append)
    fails.wait(20)
    while len(called) < 2: time.sleep(0.001)
    print(called)
    try:
        pool.submit(crowds.call, calls.kill_self).get(20)
    except WorkerDied as error:
        print(error.exitcode)
    pid = pool.apply(crowds.pid)
    os.kill(pid, signal.SIGKILL)
    print(pool.map(add, range(100)) == list(range(100)))
    pool.close()
    pool.join()
print("end")
"""
USED = ["True", "3 7", "True", "True", "[5, ValueError('no')]", "-9", "True", "end"]


@every_parent
@every_model
def test_all_ways_to_use_a_pool(script: Script, head: str, model: str | None) -> None:
    assert script(head + USES.format(model=model)).splitlines() == USED


@pytest.mark.parametrize("model", ["serial", "threads", "greenlets", "asyncio", None])
def test_who_waits_lets_other_greenlets_run(script: Script, model: str | None) -> None:
    """In a patched program; in one that is not, a wait is a wait of the whole thread."""
    printed = script(
        PATCHED
        + f"""
model = {model!r}
nap = crowds.fitting(model, crowds.nap) if model != "serial" else crowds.nap
with Pool(2, model=model) as pool:
    pool.map(nap, [0.0] * 2)
    print(ticking(lambda: pool.apply(nap, (0.2,))))
    print(ticking(lambda: pool.submit(nap, 0.2).get()))
    print(ticking(lambda: pool.map(nap, [0.1, 0.1])))
    print(ticking(lambda: list(pool.imap(nap, iter([0.1, 0.1])))))
    print(ticking(lambda: pool.submit(nap, 0.2).wait()))
    last = pool.submit(nap, 0.2)
    pool.close()
    print(ticking(pool.join), last.ready())
"""
    )
    assert printed.splitlines() == [
        "(0.2, True)",
        "(0.2, True)",
        "([0.1, 0.1], True)",
        "([0.1, 0.1], True)",
        "(None, True)",
        "(None, True) True",
    ]


@every_parent
def test_two_greenlets_share_a_pool(script: Script, head: str) -> None:
    printed = script(
        head
        + """
with Pool(2) as pool:
    def work(start):
        values = pool.map(calls.double, range(start, start + 500))
        values += [pool.submit(calls.double, x).get() for x in range(50)]
        values += list(pool.imap(calls.double, iter(range(500))))
        return values == [2 * x for x in [*range(start, start + 500), *range(50), *range(500)]]

    print([task.get() for task in [gevent.spawn(work, 1000 * i) for i in range(10)]])
"""
    )
    assert printed == f"{[True] * 10}\n"


@every_parent
def test_results_are_waited_for_by_threads_and_greenlets(script: Script, head: str) -> None:
    printed = script(
        head
        + """
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
with Pool(2) as pool:
    results = [pool.submit(calls.double, x) for x in range(100)]
    print(sorted(result.get() for result in as_completed(results, 20)) == list(range(0, 200, 2)))
    print(len(wait([pool.submit(calls.double, x) for x in range(100)], 20).done))
    with ThreadPoolExecutor(4) as executor:
        print(list(executor.map(lambda x: pool.apply(calls.double, (x,)), range(50))) == list(range(0, 100, 2)))
"""
    )
    assert printed == "True\n100\nTrue\n"


@every_parent
@every_model
def test_a_program_may_end_without_closing_its_pool(start: Start, head: str, model: str | None) -> None:
    process = start(
        head
        + f"""
model = {model!r}
pool = Pool(2, model=model)
nap = crowds.fitting(model, crowds.nap) if model != "serial" else crowds.nap
print(pool.map(nap, [0.001] * 2))
forgotten = [pool.submit(nap, 60.0) for _ in range(4)]
print("end", flush=True)
"""
    )
    assert process.communicate(timeout=30) == ("[0.001, 0.001]\nend\n", "")
    assert process.returncode == 0


@every_parent
def test_what_the_parent_patched_its_workers_do_not_have(script: Script, head: str) -> None:
    printed = script(
        head
        + """
print(crowds.is_patched())
for model in ("serial", "threads", "greenlets", "asyncio", None):
    with Pool(1, model=model) as pool:
        print(model, pool.apply(crowds.is_patched))
"""
    )
    here, *workers = printed.splitlines()
    assert here == str(head is PATCHED)
    assert workers == ["serial False", "threads False", "greenlets True", "asyncio False", "None False"]


@every_parent
def test_a_blocking_program_with_a_pool_of_greenlets(script: Script, head: str) -> None:
    """Which runs what blocks, concurrently, whatever its parent does."""
    printed = script(
        head
        + """
with Pool(1, model="greenlets", concurrency=50) as pool:
    pool.apply(crowds.nap, (0,))
    began = time.monotonic()
    print(pool.map(crowds.nap, [0.2] * 50) == [0.2] * 50, time.monotonic() - began < 5)
    greenlets = [gevent.spawn(pool.apply, crowds.nap, (0.01,)) for _ in range(20)]
    print([greenlet.get() for greenlet in greenlets] == [0.01] * 20)
"""
    )
    assert printed == "True True\nTrue\n"


def test_callbacks_in_a_patched_program_may_use_what_is_patched(script: Script) -> None:
    """They run in procoro's thread, which is a real one, and has a hub of its own."""
    printed = script(
        PATCHED
        + """
event, said = threading.Event(), []
def callback(value):
    time.sleep(0.01)
    said.append(value)
    event.set()

with Pool(1) as pool:
    pool.apply_async(calls.double, (4,), callback=callback)
    print(event.wait(20), said)
    print(pool.map_async(calls.double, range(3), callback=said.append).get(20))
"""
    )
    assert printed == "True [8]\n[0, 2, 4]\n"


def test_asyncio_within_a_patched_program(script: Script) -> None:
    printed = script(
        PATCHED
        + """
import asyncio

async def main():
    async with Pool(2) as pool:
        print(await pool.submit(calls.double, 2), [value async for value in pool.imap(calls.double, iter(range(5)))])
        print(sum(await asyncio.gather(*(pool.submit(crowds.aadd, x) for x in range(500)))))

asyncio.run(main())
"""
    )
    assert printed == "4 [0, 2, 4, 6, 8]\n124750\n"
