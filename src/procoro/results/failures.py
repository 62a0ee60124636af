"""The errors that calls end with, built where they are read: from plain blame, or from what the worker recorded."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Self

from procoro import exits
from procoro.calls import Fault, FaultKind, Run, WorkerEnd
from procoro.kernel import importing
from procoro.wire.blocks import Parts
from procoro.wire.exceptions import ExceptionAsData, Failure, add_note
from procoro.wire.inputs import PackedInputs, short

if TYPE_CHECKING:
    from procoro.conductor.conductor import Conductor
    from procoro.errors import FailedCall

RAISED = "\nraised in worker "


class Context:
    """What all calls of one stream have in common, for the words of their errors."""

    __slots__ = ("conductor", "function", "memory_limit", "shape", "single", "stream", "timeout")

    def __init__(
        self,
        conductor: Conductor,
        function: str,
        shape: int,
        timeout: float | None,
        memory_limit: int | None,
        single: bool,
    ) -> None:
        self.conductor = conductor
        self.stream = 0  # its number, once it is about to be opened
        self.function = function
        self.shape = shape
        self.timeout = timeout
        self.memory_limit = memory_limit
        self.single = single  # are they calls of their own, which only travel together?

    def number(self, number: int) -> int:
        """A call's number as its user counts: a single call is the only one."""
        return 0 if self.single else number


def error_of(fault: Fault, context: Context) -> BaseException:
    """The error for a call that ended without an outcome of its own."""
    return _error_of(fault, context, one=True)


def end_of(fault: Fault, context: Context) -> BaseException:
    """The error for all that a stream still had to give: it is that of no one call."""
    return _error_of(fault, context, one=False)


def _error_of(fault: Fault, context: Context, one: bool) -> BaseException:
    with importing:
        from procoro import errors

    end = fault.how if isinstance(fault.how, WorkerEnd) else WorkerEnd(0, None)
    call = errors.FailedCall(
        context.number(fault.first), context.function, fault.attempt, _short(fault.given, context.shape), end.pid, ""
    )
    error = _fault_error(fault, end, call, context)
    return errors.mark(error, call) if one else error


def _fault_error(fault: Fault, end: WorkerEnd, call: Any, context: Context) -> BaseException:
    with importing:
        from procoro import errors

    match fault.kind:
        case FaultKind.CANCELLED:
            return CancelledError()
        case FaultKind.TIMEOUT:
            return errors.CallTimeout(f"{call} ran longer than its timeout of {context.timeout} s")
        case FaultKind.MEMORY:
            among = f", or one of the {fault.among} that ran in it did" if fault.among > 1 else ""
            return errors.MemoryLimitExceeded(
                f"{call} took its worker to {_size(end.memory)}, over the memory_limit of "
                f"{_size(context.memory_limit or 0)}{among}"
            )
        case FaultKind.COLLATERAL:
            return errors.Collateral(str(call), end.pid, _exitcode(end))
        case FaultKind.KILLED:
            return errors.CallKilled(f"{call} was ended by kill()")
        case FaultKind.TERMINATED:
            exits.stay(context.conductor)
            return errors.PoolTerminated(
                f"{context.function}: the pool was terminated before the call had ended: "
                "get it within `with`, or close() and join() the pool"
            )
        case FaultKind.GAVE_UP:
            return _gave_up(end, context)
    return errors.WorkerDied(str(call), end.pid, _exitcode(end), _hint(end), fault.among)


def _gave_up(end: WorkerEnd, context: Context) -> BaseException:
    with importing:
        from procoro import errors

    if isinstance(end.failure, Failure):
        data = end.failure.load()
        error: BaseException = errors.InitializerFailed(
            f"{context.function} was not run: the initializer raised {data.name}: {data.text}\n\n{data.trace}"
        )
        error.__cause__ = data.rebuild()
        return error
    if end.reason and end.pid:
        return errors.InitializerFailed(f"{context.function} was not run: {end.reason}")
    if end.reason:
        return errors.WorkersKeepDying(f"{context.function} was not run: no worker can be started: {end.reason}")
    how = errors.describe_exit(_exitcode(end))
    return errors.WorkersKeepDying(
        f"{context.function} was given up: one worker after another died with nothing done between "
        f"(the last, {end.pid}, {how}{_hint(end)})"
    )


def _exitcode(end: WorkerEnd) -> int | None:
    import os

    return None if end.status is None else os.waitstatus_to_exitcode(end.status)


def _hint(end: WorkerEnd) -> str:
    return f", probably by the kernel for memory: {_size(end.memory)} when last seen" if end.oom else ""


def _size(nbytes: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if nbytes >= factor:
            return f"{nbytes / factor:.1f} {unit}"
    return f"{nbytes} bytes"


def _short(given: Sequence[Any], shape: int) -> str:
    """An input, as it would stand between the brackets of the call; a packed one is unpacked if it can be."""
    try:
        (item,) = given
        if isinstance(given, PackedInputs):
            body, *buffers = item.pieces() if isinstance(item, Parts) else [item]
            item = _Viewer(io.BytesIO(body), buffers=buffers).load()
    except Exception:
        return "..."
    return short(item, shape)


class _Viewer(pickle.Unpickler):
    """Unpickles, to look at it, what has perhaps just ended a worker: runs no code of the user's."""

    def find_class(self, module: str, name: str) -> Any:
        """Plain data is rebuilt; of the rest, only its class is shown."""
        if module in PLAIN_MODULES:
            found = super().find_class(module, name)
            if isinstance(found, type):
                return found
        return type(name, (_Shown,), {})


PLAIN_MODULES = frozenset({"builtins", "collections", "datetime", "decimal", "fractions", "pathlib", "uuid"})


class _Shown:
    """Stands where an object would, in the words of an error."""

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def exception_of(run: Run, failure: Failure, context: Context) -> BaseException:
    """The exception that a call raised, as it was; with the worker's traceback in its notes."""
    with importing:
        from procoro import errors

    data = failure.load()
    return rebuilt(
        data,
        errors.FailedCall(context.number(run.first), context.function, run.attempt, data.input, data.pid, data.trace),
    )


def rebuilt(data: ExceptionAsData, call: FailedCall) -> BaseException:
    """An exception as it was raised by this call, with the traceback of its process in its notes."""
    with importing:
        from procoro import errors

    error = data.rebuild()
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list):  # of a pool within a worker: they stand in the traceback already
        notes[:] = [note for note in notes if not str(note).startswith(RAISED)]
    add_note(error, f"{RAISED}{data.pid} by {call}:\n\n{data.trace}")
    return errors.mark(error, call)


def unpickling_error(number: int, attempt: int, cause: BaseException, context: Context) -> BaseException:
    """The error of a call whose result has arrived and cannot be rebuilt."""
    with importing:
        from procoro import errors

    call = errors.FailedCall(context.number(number), context.function, attempt, "...", 0, "")
    error = errors.ResultNotUnpicklable(f"{call}: its result cannot be unpickled: {cause!r}")
    error.__cause__ = cause
    return errors.mark(error, call)
