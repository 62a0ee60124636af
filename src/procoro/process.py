"""`Process`: `multiprocessing.Process`'s methods, and what is missing there. A process of its own, with one call."""

from __future__ import annotations

import atexit
import errno
import itertools
import os
import reprlib
import select
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from procoro import arguments
from procoro.engines.template import TemplateProcess
from procoro.functions import CO_COROUTINE, name_of
from procoro.wire.twin import MAIN
from procoro.worker import state

if TYPE_CHECKING:
    import asyncio

    from procoro.engines.process import Call, Child

LEAVING = 3.0  # seconds that a process is given between SIGTERM and SIGKILL, at exit
STARTS = 3  # templates that are tried, where one after another is killed
PICKLERS = "procoro.wire.picklers"
EXITCODES = {-number.value: f"-{number.name}" for number in signal.Signals}  # in words

_current: _ThisProcess | None = None
_parent: _ParentProcess | None = None
_counter = itertools.count(1)
_children: set[Process] = set()  # held here until they end: dropping a handle changes nothing
_starting = threading.local()  # the process that is being packed


class Process:
    """A process that runs `target(*args, **kwargs)`; as in `multiprocessing`, and its outcome comes back.

    Args:
        group: None.
        target: what it calls: a function, also of `__main__`, a lambda or closure; an `async def` is run by asyncio.
            None: nothing, or what `run` does in a subclass.
        name: for its errors and `repr`; None: "Process-1" and so on.
        args, kwargs: the arguments. All travels as it is when `start` is called.
        daemon: is it terminated when this program ends, in place of being joined? None: as this process is.

    No `if __name__ == "__main__"` is needed. Unlike `multiprocessing`'s, a daemon may have processes and pools.

    >>> from procoro import Process
    >>> power = Process(target=pow, args=(2, 10))
    >>> power.start()
    >>> power.result()
    1024
    """

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
    ) -> None:
        _require(group is None, "group argument must be None for now: the function is given by target=")
        if target is not None and not callable(target):
            raise TypeError(f"target must be a callable, got {target!r}")
        self._target = target
        self._args = arguments.row("args", args)
        self._kwargs = dict(kwargs)
        self._numbers = (*state.numbers, next(_counter))
        self._name = name or f"{type(self).__name__}-{':'.join(map(str, self._numbers))}"
        self._daemon = current_process().daemon if daemon is None else bool(daemon)
        self._key: bytes | None = None
        self._parent_pid: int | None = os.getpid()
        self._child: Child | None = None
        self._closed = False

    def run(self) -> Any:
        """What the process does; a subclass may do something else. What this returns is the process's `result`."""
        return None if self._target is None else self._target(*self._args, **self._kwargs)

    # ---- as in multiprocessing

    def start(self) -> None:
        """Start the process.

        Raises:
            procoro.errors.NotPicklable: the target or an argument cannot travel; the message gives its path.
            OSError: there is no room for another process, or no descriptor is free.
        """
        self._check_open()
        _require(self._child is None, "cannot start a process twice")
        _require(self._parent_pid == os.getpid(), "can only start a process object created by current process")
        for _ in range(STARTS):
            child = self._start()
            if child.begun:
                # As in multiprocessing: what is given to the process is given away. The end of a pipe goes with it.
                self._target, self._args, self._kwargs = None, (), {}
                return
            self._child = None
            if not child.lost:
                break
        _children.discard(self)
        error = child.failed or OSError(errno.ECHILD, "the process that it is forked from was killed")
        raise _not_started(self, error) from error

    def _start(self) -> Child:
        try:
            template = TemplateProcess.acquire()
            try:  # what is imported here is imported while the template starts up
                template.prepare(_modules(self))
                from procoro.crank import Crank
                from procoro.engines.process import Child

                crank = Crank.acquire()
            except BaseException:
                template.release(None)
                raise
            try:
                call = _pack(self)
            except BaseException:
                crank.post(lambda: Child.let_go(template, crank))
                raise
            _children.add(self)
            try:
                child = self._child = Child(template, crank, _log, self._forget)
                child.described = self._described()
                child.begin(call)
                return child
            except BaseException:
                broken, self._child = self._child, None
                if broken is not None:
                    broken.give_up()
                _children.discard(self)
                raise
        except OSError as error:
            raise _not_started(self, error) from error

    def _forget(self, child: Child, awaiting: list[asyncio.Future[None]]) -> None:
        """In the crank's thread, at its end."""
        if self._child is child:  # it may have been started again, where a template has died
            _children.discard(self)
        if awaiting:
            from procoro.results.waiting import wake

            wake(awaiting)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the process has ended, or for `timeout` seconds (None: as long as it takes)."""
        self._started("join").wait(timeout)

    def is_alive(self) -> bool:
        """Has it been started, and not ended?"""
        self._check_open()
        if self is current_process():
            return True
        _require(self._parent_pid == os.getpid(), "can only test a child process")
        return self._child is not None and not self._child.has_ended()

    def terminate(self) -> None:
        """End it by SIGTERM; it may have a handler for that. AssertionError: it has not been started."""
        self._started("terminate").send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it by SIGKILL. AssertionError: it has not been started."""
        self._started("kill").send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Give what it holds back. Raises ValueError if it still runs."""
        if self._closed:
            return
        if self._child is not None and self._parent_pid == os.getpid():
            if not self._child.ended:
                raise ValueError(
                    "Cannot close a process while it is still running. You should first call join() or terminate()."
                )
            self._child.close()
        self._child = None
        self._closed = True

    @property
    def name(self) -> str:
        """A name, of no meaning to the system."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        _require(isinstance(name, str), "name must be a string")
        self._name = name

    @property
    def daemon(self) -> bool:
        """Is it terminated when this program ends, in place of being joined?"""
        return self._daemon

    @daemon.setter
    def daemon(self, daemon: bool) -> None:
        _require(self._child is None, "process has already started")
        self._daemon = bool(daemon)

    @property
    def authkey(self) -> bytes:
        """The key by which `multiprocessing`'s managers know who may connect."""
        return _authkey() if self._key is None else self._key

    @authkey.setter
    def authkey(self, authkey: bytes) -> None:
        self._key = bytes(authkey)
        if self is current_process():
            from multiprocessing import process

            process.current_process().authkey = self._key

    @property
    def exitcode(self) -> int | None:
        """What it ended with; negative: by this signal; None: it has not been started, or not ended.

        255, as in `multiprocessing`, if nobody could learn it: the process that it was forked from has been killed.
        """
        self._check_open()
        return self._child.exitcode if self._child is not None and self._child.has_ended() else None

    @property
    def pid(self) -> int | None:
        """Its number; None before it is started."""
        self._check_open()
        if self is current_process():
            return os.getpid()
        return None if self._child is None else self._child.pid

    @property
    def ident(self) -> int | None:
        """As `pid`."""
        return self.pid

    @property
    def sentinel(self) -> int:
        """A descriptor that can be read when the process has ended: for `multiprocessing.connection.wait`, `select`."""
        self._check_open()
        if self._child is None:
            raise ValueError("process not started")
        return self._child.pidfd

    # ---- new

    def result(self, timeout: float | None = None) -> Any:
        """Wait for its end: what its target returned, or the exception that it raised.

        Raises:
            procoro.errors.WaitTimeout: it has not ended within `timeout` seconds; it goes on.
            procoro.errors.WorkerDied: it was killed, or left before its target had returned.
            procoro.errors.NotPicklable: what its target returned cannot travel.
        """
        child = self._started("ask")
        child.asked = True
        if not child.wait(timeout):
            from procoro import errors

            raise errors.WaitTimeout(f"{self._name} has not ended within {timeout} s")
        with child.lock:
            if child.opened is None:
                child.opened = self._open(child)
            ok, outcome = child.opened
        if ok:
            return outcome
        try:
            raise outcome
        finally:
            del child, outcome

    def _described(self) -> tuple[str, str]:
        """The function and its arguments, for the words of errors."""
        if self._target is None:
            return f"{type(self).__name__}.run", ""
        function = name_of(self._target)
        given = [_brief.repr(value) for value in self._args]
        given += [f"{name}={_brief.repr(value)}" for name, value in self._kwargs.items()]
        return function, ", ".join(given)

    def _open(self, child: Child) -> tuple[bool, Any]:
        from procoro import errors
        from procoro.wire import channel

        function, given = child.described
        call = errors.FailedCall(0, function, 1, given, child.pid, "")
        if child.outcome is None:
            exitcode = None if child.status is None else child.exitcode
            died = errors.WorkerDied(f"{self._name}, {function}({given})", child.pid, exitcode)
            return False, errors.mark(died, call)
        try:
            kind, value = child.unpack()
        except Exception as cause:
            error = errors.ResultNotUnpicklable(f"{call}: its result cannot be unpickled: {cause!r}")
            error.__cause__ = cause
            return False, errors.mark(error, call)
        if kind == channel.RETURNED:
            return True, value
        from procoro.results.failures import rebuilt

        call.input, call.traceback = value.input, value.trace
        return False, rebuilt(value, call)

    async def ajoin(self, timeout: float | None = None) -> None:
        """As `join`, without blocking the event loop."""
        import asyncio

        child = self._started("join")
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if child.tell_end_to(waiting):
            try:
                await asyncio.wait([waiting], timeout=timeout)
            finally:
                child.tell_no_more(waiting)

    def __await__(self) -> Generator[Any, None, Any]:
        self._started("ask").asked = True
        yield from self.ajoin().__await__()
        return self.result()

    # ---- the rest

    def _started(self, verb: str) -> Child:
        """The process, of which this is asked."""
        self._check_open()
        _require(self._parent_pid == os.getpid(), f"can only {verb} a child process")
        child = self._child
        if child is None:
            raise AssertionError(f"can only {verb} a started process")
        return child

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("process object is closed")

    def __repr__(self) -> str:
        child = self._child
        exitcode = None if child is None else child.exitcode
        if self is current_process():
            status = "started"
        elif self._closed:
            status = "closed"
        elif self._parent_pid != os.getpid():
            status = "unknown"
        elif child is None:
            status = "initial"
        else:
            status = "started" if exitcode is None else "stopped"
        words = [type(self).__name__, f"name={self._name!r}"]
        words += [] if child is None else [f"pid={child.pid}"]
        words += [f"parent={self._parent_pid}", status]
        if exitcode is not None:
            words.append(f"exitcode={EXITCODES.get(exitcode, exitcode)}")
        if self._daemon:
            words.append("daemon")
        return f"<{' '.join(words)}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        starting = getattr(_starting, "process", None)
        if starting is None:
            raise TypeError(
                f"{self._name}: a Process lives in the program that made it. Pass what the other one needs of it: its "
                "name or pid, or a queue between the two"
            )
        if starting is self and type(self) is not Process:
            return super().__reduce_ex__(protocol)
        # As a child by fork has it, which may ask its name and not much else: often a target is the method of an
        # object that holds all processes that it has started.
        reduced: Any = super().__reduce_ex__(protocol)
        made, of, held, *rest = reduced
        own, *slots = held if isinstance(held, tuple) else (held,)
        if isinstance(own, dict):
            own = own | {"_child": None, "_target": None, "_args": (), "_kwargs": {}}
        return made, of, (own, *slots) if slots else own, *rest


class _Brief(reprlib.Repr):
    """Shows what takes no time: the `__repr__` of a user's object, or of a table, may."""

    AT_ONCE = (int, float, complex, bytes, type(None), types.FunctionType, types.BuiltinFunctionType, type)

    def repr_instance(self, x: Any, level: int) -> str:
        """As in `reprlib.Repr`."""
        return super().repr_instance(x, level) if isinstance(x, self.AT_ONCE) else f"<{type(x).__name__}>"


_brief = _Brief()


class _ThisProcess(Process):
    """The process in which this is asked, where no `Process` of the user's own class runs in it."""

    def __init__(self, name: str, numbers: tuple[int, ...], daemon: bool) -> None:
        self._name = name
        self._numbers = numbers
        self._daemon = daemon
        self._target, self._args, self._kwargs = None, (), {}
        self._key = None
        self._parent_pid = None if state.caller is None else state.caller[1]
        self._child = None
        self._closed = False

    def close(self) -> None:
        """Nothing is held."""


class _ParentProcess(_ThisProcess):
    """The process that started this one. This one ends when it does."""

    def __init__(self, name: str, pid: int) -> None:
        super().__init__(name, (), False)
        self._pid = pid
        self._parent_pid = None
        self._pidfd = -1

    @property
    def pid(self) -> int:
        """Its number."""
        return self._pid

    @property
    def sentinel(self) -> int:
        """A descriptor that can be read when it has ended."""
        if self._pidfd < 0:
            self._pidfd = os.pidfd_open(self._pid)
        return self._pidfd

    def is_alive(self) -> bool:
        """Has it not ended?"""
        return not self._ends_within(0)

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, or for `timeout` seconds."""
        self._ends_within(timeout)

    def _ends_within(self, timeout: float | None) -> bool:
        poll = select.poll()
        poll.register(self.sentinel, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))


def current_process() -> Process:
    """The process in which this is called; in a program's first one, it is named "MainProcess"."""
    global _current
    inside = sys.modules.get("procoro.worker.process")  # in a program's first process, nothing needs it
    if inside is not None and inside.current is not None:
        current: Process = inside.current
        return current
    if _current is None:
        _current = _ThisProcess(state.name, state.numbers, state.daemon)
    return _current


def parent_process() -> Process | None:
    """The process that started this one (or its pool); None in a program's first one."""
    global _parent
    if _parent is None and state.caller is not None:
        _parent = _ParentProcess(*state.caller)
    return _parent


def active_children() -> list[Process]:
    """The processes that this one has started, and that live."""
    return [process for process in list(_children) if process._child is not None and process._child.lives]


def _pack(process: Process) -> Call:
    """Where a call is packed, with the handles in it. Raises NotPicklable."""
    from procoro.engines.process import Call
    from procoro.wire import handles
    from procoro.wire.packer import pack_once

    kind = type(process)
    parts: tuple[Any, ...] = process._target, process._args, process._kwargs
    with handles.collecting() as found:
        _starting.process = process
        try:
            call, definitions = pack_once(parts if kind is Process else process)
        except Exception as error:
            raise _not_picklable(process, error) from error
        finally:
            _starting.process = None
    modules = _modules(process)
    if any(b"cloudpickle.cloudpickle" in data for data in (call.body, *(one[-1] for one in definitions))):
        modules.add(PICKLERS)
    interrupted = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    own = process._name, process._numbers, process._daemon, process._key
    return Call(state.capture(), (own, interrupted, definitions), call, found, modules)


def _modules(process: Process) -> set[str]:
    """Those that it will import, as far as can be told before it is packed."""
    kind, modules = type(process), set()
    run = process._target if kind.run is Process.run else kind.run
    if kind is not Process:
        modules.add(__name__)
    if kind.__module__ in MAIN or getattr(run, "__closure__", None):
        modules.add(PICKLERS)
    code = getattr(run, "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        modules.add("asyncio")
    if "multiprocessing.process" in sys.modules:  # then the child takes its authkey over
        modules.add("multiprocessing.process")
    return modules


def _not_started(process: Process, error: OSError) -> OSError:
    return OSError(error.errno, f"{error.strerror}: {process._name} was not started")


def _not_picklable(process: Process, error: Exception) -> Exception:
    from procoro import errors
    from procoro.wire.packer import paths, refusal

    refused = refusal(
        [
            *paths(process._args, process._kwargs),
            ("target", process._target),
            *((f"self.{name}", value) for name, value in process.__dict__.items()),
        ]
    )
    return refused or errors.NotPicklable(f"{process._name} cannot be sent: {error}")


def _log(data: bytes) -> None:
    """In the crank's thread: a log record of a process reaches the handlers of this one."""
    from procoro.conductor.loggers import hand_to_loggers

    hand_to_loggers(data)


def _authkey() -> bytes:
    from multiprocessing import process

    return process.current_process().authkey


def _require(true: bool, words: str) -> None:
    """As the assertions of `multiprocessing`, but not to be switched off."""
    if not true:
        raise AssertionError(words)


def _end_all() -> None:
    """At exit: daemons are terminated, all others joined; at a Ctrl-C meanwhile, they are terminated, too."""
    for process in active_children():
        if process._daemon:
            process.terminate()
    try:
        while waited_for := [process for process in active_children() if not process._daemon]:
            waited_for[0].join()
    finally:
        left = active_children()
        for process in left:
            process.terminate()
        deadline = time.monotonic() + LEAVING
        for process in left:
            process.join(max(0.0, deadline - time.monotonic()))  # the lifeline ends what is left


def _forget_in_child() -> None:
    for process in _children:
        if process._child is not None:
            process._child.forked()
    _children.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_forget_in_child)
