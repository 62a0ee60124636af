"""What the workers run. Apart from the tests, so that a worker imports no pytest."""

import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.gate import Turnstile

MINE = os.getpid()  # of the process that imported this; see `stranger`


def double(x: Any) -> Any:
    return x + x


def add(a: int, b: int = 0, *, c: int = 0) -> int:
    return a + b + c


def pid(_: object = None) -> int:
    return os.getpid()


def stand(gate: Turnstile, value: Any = None) -> Any:
    """Stand at the gate, then return the value."""
    gate.pass_through()
    return value


def stand_if(given: tuple[Turnstile, bool, Any]) -> Any:
    gate, stands, value = given
    if stands:
        gate.pass_through()
    return value


# ------------------------------------------------------------------------------------------ ways to die


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die(*_: object) -> None:
    kill_self()


def segfault() -> None:
    import ctypes

    ctypes.string_at(0)


def exit_3() -> None:
    os._exit(3)


def exit_0() -> None:
    os._exit(0)


def exit_in_thread() -> None:
    thread = threading.Thread(target=os._exit, args=(4,))
    thread.start()
    threading.Event().wait()


def leave(status: object = 5) -> None:
    sys.exit(status)  # type: ignore[arg-type]


def die_if_7(x: int) -> int:
    if x % 100 == 7:
        kill_self()
    return x + x


# ------------------------------------------------------------------------------------- ways not to end


def spin(gate: Turnstile | None = None) -> int:
    """A loop in C that looks at no signal and cannot be interrupted."""
    if gate is not None:
        gate.pass_through()
    return sum(range(10**11))


def spin_if_5(x: int) -> int:
    return spin() if x == 5 else x + x


def hang() -> None:
    threading.Event().wait()


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def hoard(megabytes: int, gate: Turnstile) -> int:
    held = b"x" * (megabytes << 20)
    gate.pass_through()
    return len(held)


# --------------------------------------------------------------------------------------- ways to raise


class Odd(Exception):
    """Cannot be rebuilt: its __init__ wants more than it hands on."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"{words} ({code})")


class Held(Exception):
    """Cannot travel: it holds a lock."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.lock = threading.Lock()


class Trap(Exception):
    """Can be rebuilt where it was raised, and nowhere else."""

    def __reduce__(self) -> Any:
        return _only_in, (os.getpid(), Trap, self.args)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def _only_in(home: int, make: Any, args: tuple[Any, ...]) -> Any:
    if os.getpid() != home:
        raise RuntimeError("not in this process")
    return make(*args)


def raise_odd() -> None:
    raise Odd(42, "odd")


def raise_held() -> None:
    raise Held("held")


def raise_trap() -> None:
    raise Trap("trap")


def raise_mute() -> None:
    raise Mute


def raise_if_3(x: int) -> int:
    if x % 10 == 3:
        raise ValueError(f"no {x}")
    return x + x


def raise_from(x: int) -> None:
    try:
        raise KeyError(x)
    except KeyError as error:
        raise LookupError("outer") from error


def raise_interrupt() -> None:
    raise KeyboardInterrupt("mine")


# ----------------------------------------------------------------------------------- what cannot travel


class Bomb:
    """Packs, and cannot be unpacked."""

    def __reduce__(self) -> Any:
        return _explode, ("bomb",)


class Sealed:
    """Packs; unpacks in every process but the one that packed it."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __reduce__(self) -> Any:
        return _not_in, (self.home,)


def _explode(words: str) -> None:
    raise RuntimeError(words)


def _not_in(home: int) -> int:
    if os.getpid() == home:
        raise RuntimeError("not in this process")
    return 1


class ExitBomb:
    """Unpacking it ends the worker."""

    def __reduce__(self) -> Any:
        return os._exit, (6,)


def lock_if_3(x: int) -> Any:
    return {"deep": [1, threading.Lock()]} if x % 10 == 3 else x + x


def bomb_if_3(x: int) -> Any:
    return Bomb() if x % 10 == 3 else x + x


def generator(_: object = None) -> Any:
    return (x for x in range(3))


# ----------------------------------------------------------------------------------------- what counts


def note(path: str) -> int:
    """Leave a mark that outlives the worker; how many there are now."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, b".")
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def raise_until(path: str, times: int) -> int:
    """Raise until it has been run so many times; how many that were."""
    count = note(path)
    if count < times:
        raise ValueError(f"run {count}")
    return count


def die_until(path: str, times: int) -> int:
    count = note(path)
    if count < times:
        kill_self()
    return count


def hang_until(path: str, times: int) -> int:
    count = note(path)
    if count < times:
        hang()
    return count


_marks: dict[str, mmap.mmap] = {}


class Marked:
    """`x -> factor * x + 3`, which also counts, for each x, how often it was begun."""

    def __init__(self, path: str, factor: int) -> None:
        self.path = path
        self.factor = factor

    def __call__(self, x: int) -> int:
        marks = _marks.get(self.path)
        if marks is None:
            with open(self.path, "r+b") as file:
                marks = _marks[self.path] = mmap.mmap(file.fileno(), 0)
        marks[x] += 1
        sum(range(x % 300))  # so that workers, and not the parent, are what is busy
        return self.factor * x + 3


class MarkedNap(Marked):
    """As `Marked`, and takes a tenth of a millisecond, in which nothing is computed."""

    def __call__(self, x: int) -> int:
        value = super().__call__(x)
        time.sleep(0.0001)
        return value


class MarkedWait(Marked):
    """As `Marked`, and waits for a moment, so that others run beside it and end in another order."""

    def __call__(self, x: int) -> int:
        value = super().__call__(x)
        time.sleep(0.001 * (x % 7))
        return value


class MarkedTask(Marked):
    """As `MarkedWait`, awaited."""

    async def __call__(self, x: int) -> int:  # type: ignore[override]
        import asyncio

        value = super().__call__(x)
        await asyncio.sleep(0.001 * (x % 7))
        return value


class Deadly(Marked):
    """As `Marked`; but every second call ends its worker the first time that it is begun."""

    def __call__(self, x: int) -> int:
        value = super().__call__(x)
        if x % 2 and _marks[self.path][x] == 1:
            kill_self()
        return value


# ------------------------------------------------------------------------------------------ initializers

state: dict[str, Any] = {}


def set_state(value: Any) -> None:
    state["value"] = value


def get_state(_: object = None) -> Any:
    return state.get("value")


def fail_to_start(words: str) -> None:
    raise RuntimeError(words)


def fail_once(path: str) -> None:
    if note(path) == 1:
        kill_self()


async def double_async(x: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return x + x


def big(megabytes: int) -> bytes:
    return b"x" * (megabytes << 20)


def length(data: Any) -> int:
    return len(data)


def call(function: Callable[[], Any]) -> Any:
    return function()


class Tagged:
    """An object that can be watched for its end."""

    def __init__(self, tag: object = None) -> None:
        self.tag_ = tag

    def tag(self) -> object:
        return self.tag_


def tagged(tag: object) -> Tagged:
    return Tagged(tag)


def touch(path: str) -> None:
    with open(path, "w"):
        pass


def raise_at_3(given: tuple[int, type[Exception]]) -> int:
    number, error = given
    if number == 3:
        raise error
    return number
