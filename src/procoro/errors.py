"""What can go wrong, by who is guilty. Every error also is what a caller of the standard library already catches.

    ProcoroError
      PoolClosed           you: the pool takes no more calls
      NotPicklable         you: a function or an argument cannot travel
      WaitTimeout          nobody: `get(timeout)` gave up waiting; the call goes on
      WorkerDied           the call: its worker was lost while running it (or one of those that ran beside it)
      Collateral           another call: it was ended with the worker, and this one with it
      CallTimeout          the call: it ran longer than its `timeout`
      MemoryLimitExceeded  the call: its worker held more than `memory_limit`
      CallKilled           you: `Result.kill()`
      PoolTerminated       you: the pool was ended before the call was
      ResultNotUnpicklable the call: its result arrived and cannot be rebuilt
      RemoteError          the call: it raised an exception that cannot be rebuilt; its text is here
      WorkersKeepDying     the function, or the initializer: no worker stays alive
      InitializerFailed    the initializer
      NotHeld              you: a lock is released by who does not hold it
      QueueShutDown        nobody: the queue was shut down
      QueueAbandoned       nobody: the queue is empty, and all others that held it are gone
      ConsumerDied         a consumer of a queue, between `get` and `task_done`

A call's own exception is raised as it is, with the worker's traceback in its notes; `failed_call` tells which
call it was.
"""

from __future__ import annotations

import multiprocessing
import pickle
import queue
import signal
from typing import Any

try:
    from concurrent.futures.process import BrokenProcessPool
except RuntimeError:  # it cannot be imported at the interpreter's end; and nobody can have it, to catch it
    from concurrent.futures import BrokenExecutor as BrokenProcessPool  # type: ignore[assignment]


class ProcoroError(Exception):
    """Root of all errors that procoro raises itself."""


class PoolClosed(ProcoroError, ValueError, RuntimeError):
    """The pool was closed or terminated, and takes no new calls. (ValueError, as in `multiprocessing`.)"""


class NotPicklable(ProcoroError, pickle.PicklingError):
    """A function, an argument or a result cannot be sent to another process; the message says which part of it."""


class WaitTimeout(ProcoroError, TimeoutError, multiprocessing.TimeoutError):
    """There was no result within the seconds that `get`, `result` or `next` was told to wait. The call goes on."""


class WorkerDied(ProcoroError, BrokenProcessPool):
    """The worker was lost while it ran this call. Other calls are not affected.

    `call` names the call; `pid` is the worker's; `exitcode` is negative for a signal, None if nobody could learn it.
    `suspects`: so many calls were running in the worker, and any of them may be the cause; 1: it was this one.
    """

    def __init__(self, call: str, pid: int, exitcode: int | None, hint: str = "", suspects: int = 1) -> None:
        super().__init__(call, pid, exitcode, hint, suspects)
        self.call, self.pid, self.exitcode, self.hint, self.suspects = call, pid, exitcode, hint, suspects

    def __str__(self) -> str:
        words = f"{self.call}: worker {self.pid} {describe_exit(self.exitcode)}{self.hint}"
        if self.suspects > 1:
            words += f"; {self.suspects} calls were running in it, and any of them may be the cause"
        return words


class Collateral(WorkerDied):
    """The worker was ended because of another call that ran beside this one; this call was not at fault."""

    def __str__(self) -> str:
        return f"{self.call}: worker {self.pid} was ended because of another call that ran in it"


class CallTimeout(ProcoroError, TimeoutError, multiprocessing.TimeoutError):
    """The call ran longer than its timeout, and was ended with its worker."""


class MemoryLimitExceeded(ProcoroError, MemoryError):
    """The call's worker held more than `memory_limit`, and was ended."""


class CallKilled(ProcoroError):
    """`Result.kill()` ended the call while it was running."""


class PoolTerminated(ProcoroError, BrokenProcessPool):
    """The pool was terminated before the call had ended."""


class ResultNotUnpicklable(ProcoroError, pickle.UnpicklingError):
    """The call returned, but its result cannot be rebuilt here; `__cause__` says why."""


class RemoteError(ProcoroError):
    """The call raised an exception that cannot be rebuilt here: its name, its text, and the worker's traceback."""


class WorkersKeepDying(ProcoroError, BrokenProcessPool):
    """One worker after another died, with nothing done between; the calls that were left were given up."""


class InitializerFailed(ProcoroError, BrokenProcessPool):
    """The initializer failed in every worker that was started, so no call can run."""


class NotHeld(ProcoroError, ValueError, RuntimeError, AssertionError):
    """A lock or a permit is released by who does not hold it.

    It is each of the classes that `multiprocessing` and `threading` raise for that.
    """


class QueueShutDown(ProcoroError, getattr(queue, "ShutDown", Exception)):  # type: ignore[misc]
    """The queue was shut down: it takes no more, and has no more to give. (From Python 3.13, also `queue.ShutDown`.)"""


class QueueAbandoned(ProcoroError, EOFError, queue.Empty):
    """The queue is empty, and nobody but this process holds it any more: nothing can come, but from here."""


class ConsumerDied(ProcoroError, RuntimeError):
    """A process died between a queue's `get` and `task_done`: `join` would wait for ever."""


class FailedCall:
    """Which call an exception came from."""

    __slots__ = ("attempt", "function", "input", "number", "pid", "traceback")

    def __init__(self, number: int, function: str, attempt: int, given: str, pid: int, traceback: str) -> None:
        self.number = number  # from 0, in its map or stream; of a single call, 0
        self.function = function
        self.attempt = attempt  # from 1
        self.input = given  # its input, cut short
        self.pid = pid  # of the worker; 0 if there was none
        self.traceback = traceback  # the worker's, as text; empty if there is none

    def __str__(self) -> str:
        again = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return f"{self.function}({self.input}) [call {self.number}{again}]"


def failed_call(error: BaseException) -> FailedCall | None:
    """The call that ended with this exception; None if it did not come from a call."""
    call: Any = getattr(error, "__dict__", {}).get("_procoro_call")
    return call if isinstance(call, FailedCall) else None


def mark(error: BaseException, call: FailedCall) -> BaseException:
    """Let `failed_call` find the call of an exception."""
    try:
        error.__dict__["_procoro_call"] = call
    except (AttributeError, TypeError):
        pass
    return error


def describe_exit(exitcode: int | None) -> str:
    """How a process ended, in words."""
    if exitcode is None:
        return "is gone (how it ended is not known)"
    if exitcode >= 0:
        return f"left with exit code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"
