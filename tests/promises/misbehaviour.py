"""Calls that do to their worker what no call should, and calls that only look so."""

import asyncio
import atexit
import ctypes
import faulthandler
import gc
import multiprocessing
import multiprocessing.pool
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from tests.gate import Turnstile

kept: list[Any] = []  # what is to outlive its call

# ---------------------------------------------------------------------------------- what is no Exception


class Base(BaseException):
    """Of no family that anybody catches."""


BASES = [
    KeyboardInterrupt("mine"),
    SystemExit(3),
    GeneratorExit("mine"),
    asyncio.CancelledError("mine"),
    Base("mine", 7),
]


def throw(error: BaseException) -> None:
    raise error


def throw_at_3(given: tuple[int, BaseException]) -> int:
    x, error = given
    if x == 3:
        raise error
    return x


# ----------------------------------------------------------------------- what springs on the way to or fro


class SpringsWhenRebuilt:
    """Packs; whoever rebuilds it runs the trap."""

    def __init__(self, trap: Callable[[], Any]) -> None:
        self.trap = trap

    def __reduce__(self) -> Any:
        return self.trap, ()

    def __call__(self, x: int) -> int:
        return x


class SpringsWhenPacked:
    def __init__(self, trap: Callable[[], Any]) -> None:
        self.trap = trap

    def __getstate__(self) -> Any:
        return self.trap()


class Springs(Exception):
    """Raised as any other; whoever packs it runs the trap."""

    def __reduce__(self) -> Any:
        return self.args[0]()


class SpringsWhenShown(Exception):
    def __str__(self) -> str:
        return str(self.args[0]())


def same(x: Any) -> Any:
    return x


def give(trap: Callable[[], Any] | int) -> Any:
    return SpringsWhenPacked(trap) if callable(trap) else trap


def fail(trap: Callable[[], Any] | int) -> Any:
    if callable(trap):
        raise Springs(trap)
    return trap


def fail_to_show(trap: Callable[[], Any]) -> None:
    raise SpringsWhenShown(trap)


# ------------------------------------------------------------------------------------------- descriptors


def close_range(low: int, size: int = 0) -> bytes:
    os.closerange(low, 256)
    return bytes(size)


def close_and_open_others(size: int = 0) -> bytes:
    """Sockets of our own get the numbers of the worker's, and live on."""
    os.closerange(3, 256)
    kept.append([socket.socketpair() for _ in range(16)])
    return bytes(size)


def put_null_over_all(size: int = 0) -> bytes:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in {*range(3, 64)} - {null}:
        os.dup2(null, fd)
    return bytes(size)


def leave_no_descriptor(size: int) -> bytes:
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return bytes(size)


# ----------------------------------------------------------------------------------- standard output


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        raise RuntimeError("no flush")


def take_stdout_away() -> None:
    print("x", end="")
    sys.stdout = None


def delete_stdout() -> None:
    print("x", end="")
    del sys.stdout


def put_something_else_for_stdout() -> None:
    print("x", end="")
    sys.stdout = Unhashable()  # type: ignore[assignment]


def close_stdout() -> None:
    print("x", end="")
    sys.stdout.close()


def close_what_stdout_writes_to() -> None:
    print("x", end="")
    os.close(1)


# ------------------------------------------------------------------------------------------- signals


def block_all_signals() -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return os.getpid()


def ignore_signals() -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    return os.getpid()


def stop_self() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def leave_an_alarm() -> int:
    """The signal comes when this call is long over."""
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    return os.getpid()


def leave_an_alarm_that_raises() -> int:
    signal.signal(signal.SIGALRM, _late)
    return leave_an_alarm()


def _late(signum: int, frame: object) -> None:
    raise TimeoutError("nobody waits for this any more")


def sleep_under_signals(seconds: float) -> float:
    """Sleep, while signals come whose handler does nothing."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, seconds / 10, seconds / 10)
    began = time.monotonic()
    try:
        time.sleep(seconds)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return time.monotonic() - began


# --------------------------------------------------------------------------------- the worker's innards


def _broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("patched")


def patch_pickle() -> None:
    pickle.dumps = _broken


def patch_the_clock() -> None:
    time.perf_counter = time.monotonic = time.time = _broken


def patch_os() -> None:
    os.write = os.read = os.close = _broken  # type: ignore[assignment]


def forget_all_modules() -> None:
    for name in set(sys.modules) - {"sys", "builtins"}:
        del sys.modules[name]


def freeze_the_heap() -> None:
    gc.freeze()
    gc.disable()


def be_nice() -> None:
    os.nice(1)


def register_at_exit() -> None:
    atexit.register(_broken)


def enable_the_fault_handler() -> None:
    faulthandler.enable()


def lead_a_session() -> None:
    os.setsid()


def lead_a_group() -> None:
    os.setpgid(0, 0)


def recurse_less() -> None:
    sys.setrecursionlimit(100)


def warn() -> None:
    warnings.simplefilter("error")


def kill_the_template() -> None:
    os.kill(os.getppid(), signal.SIGKILL)


# --------------------------------------------------------------------------------------- deaths, raising


def recurse() -> Any:
    return recurse()


def overflow_the_stack() -> None:
    """C recursion without end, on a stack that is small, so that it does not take long."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    nested: list[Any] = []
    for _ in range(10_000):
        nested = [nested]
    sys.setrecursionlimit(10**8)
    threading.stack_size(256 << 10)
    thread = threading.Thread(target=repr, args=(nested,))
    thread.start()
    thread.join()


def abort() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.abort()


def segfault_with_a_fault_handler() -> None:
    faulthandler.enable()
    ctypes.string_at(0)


def become(*command: str) -> None:
    os.execvp(command[0], command)


# --------------------------------------------------------------------------------------------- threads


def leave_threads(count: int) -> int:
    """Threads that never end; half of them are no daemons."""
    for number in range(count):
        threading.Thread(target=threading.Event().wait, daemon=number % 2 == 0).start()
    return os.getpid()


def print_from_a_thread(words: str) -> None:
    kept.append(thread := threading.Thread(target=_print_later, args=(words, os.getpid())))
    thread.start()


def _print_later(words: str, pid: int) -> None:
    print(words, end="")


# ------------------------------------------------------------------------------------------- the state


def change_the_state(folder: str) -> int:
    os.chdir(folder)
    os.umask(0o077)
    os.environ["MISBEHAVIOUR"] = "1"
    sys.path.append(folder)
    sys.argv.append("--changed")
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    return os.getpid()


def state_now() -> tuple[Any, ...]:
    os.umask(mask := os.umask(0))
    return (
        os.getcwd(),
        mask,
        os.environ.get("MISBEHAVIOUR"),
        sys.path[-1],
        sys.argv[-1],
        resource.getrlimit(resource.RLIMIT_CORE)[0],
    )


# --------------------------------------------------------------------------------------------- programs


def run_a_program(*command: str) -> str:
    return subprocess.run(command, close_fds=False, capture_output=True, text=True, check=True).stdout


def use_multiprocessing(x: int) -> list[int]:
    child = multiprocessing.Process(target=same, args=(x,))
    child.start()
    child.join()
    with multiprocessing.Pool(2) as pool:
        values = pool.map(same, range(x))
    with multiprocessing.pool.ThreadPool(2) as threads:
        return [child.exitcode or 0, *values, *threads.map(same, range(x))]


def adder(n: int) -> Callable[[int], int]:
    return lambda x: x + n


# --------------------------------------------------------------------------------------------- forks


def fork_and_return(gate: Turnstile, size: int = 0) -> tuple[int, bytes]:
    """Both return; the child only when it is let through the gate."""
    child = os.fork()
    if child == 0:
        gate.pass_through()
    return child, bytes(size)


def fork_a_daemon(gate: Turnstile) -> int:
    """As daemons are made: two forks, a session of its own, no descriptor kept."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 256)
    gate.pass_through()
    os._exit(0)


def fork_and_stand(gates: tuple[Turnstile, Turnstile]) -> int:
    """The child stands at the first gate with all that it has inherited, the call at the second."""
    theirs, ours = gates
    child = os.fork()
    if child == 0:
        theirs.pass_through()
        os._exit(0)
    ours.pass_through()
    return child


def start_programs_that_live_on(gate: Turnstile) -> tuple[int, int]:
    """A fork and a program; the call goes on."""
    program = subprocess.Popen(["sleep", "60"])
    kept.append(program)
    child = os.fork()
    if child == 0:
        while True:
            signal.pause()
    gate.pass_through()
    return program.pid, child


def fork_in_the_initializer() -> None:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
