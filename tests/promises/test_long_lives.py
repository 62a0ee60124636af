"""A service that runs for months: what has been used and dropped leaves nothing, and nothing gets slower."""

import asyncio
import gc
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from procoro import Pool, Process
from procoro.wire import record
from tests.gate import Gate
from tests.promises import calls, crowds
from tests.promises.conftest import Script
from tests.promises.looks import kill, template


def futures() -> int:
    gc.collect()
    return sum(isinstance(one, asyncio.Future) and not isinstance(one, asyncio.Task) for one in gc.get_objects())


@pytest.mark.parametrize(
    "begin",
    [
        lambda pool, gate: pool.submit(calls.stand, gate),
        lambda pool, gate: pool.map_async(calls.stand, [gate]),
        lambda pool, gate: pool.imap(calls.stand, [gate]),
    ],
    ids=["submit", "map_async", "imap"],
)
def test_waits_that_were_given_up_leave_nothing(begin: Callable[[Pool, Gate], Any], gate: Gate) -> None:
    async def wait_again_and_again(awaited: Any) -> int:
        before = futures()
        for _ in range(100):
            waiting = asyncio.ensure_future(anext(awaited) if hasattr(awaited, "__anext__") else wait(awaited))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        del waiting
        return futures() - before

    async def wait(awaited: Any) -> None:
        await awaited

    with Pool(1) as pool:
        begun = begin(pool, gate)
        gate.reached()
        assert asyncio.run(wait_again_and_again(begun)) <= 1
        gate.open()


def test_stacks_of_blocked_loops_take_no_more_room() -> None:
    with Pool(1, model="asyncio") as pool:
        pool.submit(crowds.anap, 0.0).get()
        (member,) = pool._conductor._engine._members.values()
        sizes = []
        for _ in range(3):
            pool.submit(crowds.stall, 1.9).get()
            sizes.append(os.fstat(member.record.fd).st_size)
    assert sizes[0] > record.SIZE, "it has been asked where it stands"
    assert max(sizes) < sizes[0] + 2000


def test_processes_that_are_joined_and_dropped_hold_no_descriptor() -> None:
    def live() -> None:
        process = Process(target=abs, args=(1,))
        process.start()
        process.join()

    live()
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    for _ in range(40):
        live()
        most = max(most, len(os.listdir("/proc/self/fd")))
    assert most <= before + 10  # one for each would be 40; the last template and crank may not have gone yet


def test_templates_that_died_hold_no_descriptor() -> None:
    with Pool(1) as pool:

        def replace() -> None:
            kill(template().pid)
            os.kill(pool.apply(os.getpid), signal.SIGKILL)
            pool.apply(os.getpid)

        replace()
        replace()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            replace()
        assert len(os.listdir("/proc/self/fd")) <= before + 2, "those of the last one"


def test_globals_that_were_used_are_kept_by_nobody(script: Script) -> None:
    said = script(
        """
        import gc, weakref
        from procoro import Pool, Process

        class Big:
            def __init__(self): self.data = bytes(10_000_000)

        def use(x): return len(big.data) + x

        def held():
            gc.collect()
            return sum(len(one) for one in gc.get_objects() if type(one) is bytes)

        gc.disable()
        big = Big()
        process = Process(target=use, args=(1,))
        process.start()
        print(process.result())
        with Pool(1) as pool:
            print(pool.map(use, [1]), pool.apply(use, (2,)))
            old = weakref.ref(big)
            del big
            print(pool.map(lambda x: type(use).__name__, [1]))
        print(old())
        """
    )
    assert said.splitlines() == ["10000001", "[10000001] 10000002", "['function']", "None"]
