"""A process with one call: takes it, runs it, hands its outcome over, and ends as a program does."""

from __future__ import annotations

import atexit
import os
import pickle
import select
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from importlib import import_module
from typing import Any

from procoro.wire import channel, handles, parcel, twin
from procoro.wire.blocks import Parts
from procoro.wire.exceptions import pack_failure
from procoro.wire.inputs import FULL, short
from procoro.wire.values import pack_big_value
from procoro.worker import outcomes, output, state

REHEARSALS = 10  # Python specialises a function when it has run eight times
ANSWER = 1.0  # seconds that the caller is given to say whether anybody has asked for the outcome

# `signal` puts enums around it, which it looks up: 20 page faults in a process just forked
signals: Any = import_module("_signal")
TERMINATION = signals.getsignal(signals.SIGTERM)  # of the template

interrupted: list[int] = []  # a Ctrl-C that came before the call could take it

current: Any = None  # the `Process` that runs here, where it is an instance of the user's own class


def run(fds: list[int]) -> int:
    """The life of the process, from its start request to its end; its exit code."""
    end_fd, stdout, stderr, *tracker = fds
    end = channel.adopt(end_fd)
    streams = output.open_streams(stdout, stderr, [True])
    for fd in (stdout, stderr):
        os.close(fd)
    logging = state.Ahead.complete()
    state.use_tracker(tracker)
    output.ForwardLogging(end, logging)
    if TERMINATION != signals.SIG_DFL:
        signals.signal(signals.SIGTERM, signals.SIG_DFL)
    signals.pthread_sigmask(signals.SIG_UNBLOCK, [signals.SIGTERM])  # blocked in the template
    code = 1
    try:
        code = OneCall(end).run()
    except KeyboardInterrupt:  # while it was telling
        pass
    finally:
        _end(streams)
    return code & 0xFF


def rehearse() -> None:
    """In the template: run a call that does nothing, some times.

    What Python learns by that (specialised code, caches of methods) is there in all that are forked, and takes a fifth
    off what each of them costs.
    """
    ours, theirs = channel.pair()
    about = (state.name, state.numbers, state.daemon, None), True, ()
    call: tuple[Any, ...] = int, (), {}
    body, _ = parcel.pack([Parts(pickle.dumps(part, 5), ()) for part in (about, call)])
    blocked = signals.pthread_sigmask(signals.SIG_BLOCK, [signals.SIGINT])
    handler = signals.getsignal(signals.SIGINT)
    for _ in range(REHEARSALS):
        channel.send(ours, [channel.CALL, body])
        OneCall(theirs).run()
        channel.receive(ours)
        threading._after_fork()  # type: ignore[attr-defined]  # which each of them runs
    signals.signal(signals.SIGINT, handler)
    signals.pthread_sigmask(signals.SIG_SETMASK, blocked)
    ours.close()
    theirs.close()


def _receive(end: channel.End) -> tuple[list[Callable[[], Any]], list[handles.Arrived]]:
    """The next message's pickles, and the handles that came before it."""
    arrived: list[handles.Arrived] = []
    while True:
        message, fds = channel.receive(end)
        if not message:
            os._exit(1)  # the caller has given this start up
        if message[:1] != channel.HANDLE:
            return parcel.unpack(message, fds), arrived
        arrived.append(handles.arrive(message, fds))


class OneCall:
    """The call, and whom to tell how it ended."""

    def __init__(self, end: channel.End) -> None:
        self._end = end
        self._end_is = _which(end)
        self._pid = os.getpid()
        self._given: Any = (), {}  # arguments, for the words of its errors

    def run(self) -> int:
        """Run the call and hand its outcome over; the exit code that follows from it."""
        try:
            value = self._run()
        except SystemExit as leaving:
            self._say(channel.LEFT, self._failure(leaving))
            return output.exit_status(leaving)
        except BaseException as error:
            if not self._say(channel.RAISED, self._failure(error)) or not self._is_asked():
                _print(error)
            return 1
        self._return(value)
        return 0

    def _run(self) -> Any:
        """Where a call is unpacked. (Its handles have come before it.)"""
        global current
        (about, call), arrived = _receive(self._end)
        (state.name, state.numbers, state.daemon, authkey), heeds_interrupts, definitions = about()
        signals.signal(signals.SIGINT, signals.default_int_handler if heeds_interrupts else signals.SIG_IGN)
        if interrupted and heeds_interrupts:
            raise KeyboardInterrupt
        if authkey is not None:
            import_module("multiprocessing.process")
        theirs: Any = sys.modules.get("multiprocessing.process")
        if theirs is not None:
            theirs.current_process().name = state.name
            if authkey is not None:
                theirs.current_process().authkey = authkey
        if arrived:
            with handles.arriving(arrived):
                process = _load(call, definitions)
        else:  # most have none: 17 page faults less
            process = _load(call, definitions)
        if isinstance(process, tuple):
            target, args, kwargs = process
            self._given = args, kwargs
            value = None if target is None else target(*args, **kwargs)
        else:
            current = process
            value = process.run()
        if type(value) not in PLAIN and isinstance(value, Coroutine):
            import asyncio

            value = asyncio.run(value)
        return value

    def _return(self, value: Any) -> None:
        if type(value) in PLAIN:
            self._say(channel.RETURNED, Parts(pickle.dumps(value, 5), ()))
            return
        try:
            with handles.collecting() as found:
                parts = pack_big_value(value)
            handles.send(partial(channel.send, self._end), found)
            self._say(channel.RETURNED, parts)
        except Exception as error:  # nobody may ever ask for the value: the exit code stays 0
            self._say(channel.LEFT, self._failure(outcomes.refused(value, error)))

    def _failure(self, error: BaseException) -> Parts:
        return Parts(pack_failure(error, short(self._given, FULL)), ())

    def _say(self, kind: bytes, parts: Parts) -> bool:
        """Tell the caller; False if that cannot be done. The call may have closed our end, or forked and returned."""
        try:
            if os.getpid() != self._pid or _which(self._end) != self._end_is:
                return False
            parcel.send(self._end, kind, [parts])
        except OSError:
            return False
        return True

    def _is_asked(self) -> bool:
        """Has anybody asked for the outcome? Then it is told there, and need not be printed."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return bool(poll.poll(ANSWER * 1000)) and channel.receive(self._end)[0] == channel.ASKED


def _load(call: Callable[[], Any], definitions: Any) -> Any:
    if definitions:
        twin.define(definitions)
    return call()


def _which(end: channel.End) -> tuple[int, int]:
    """Which socket it is, whatever its number."""
    status = os.fstat(end.fileno())
    return status.st_dev, status.st_ino


PLAIN = frozenset({type(None), bool, int, float})  # small, and nothing can be the matter with them


def _print(error: BaseException) -> None:
    """As `multiprocessing` does, in one piece."""
    import traceback

    try:
        text = "".join(traceback.format_exception(error))
        sys.stderr.write(f"Process {state.name}:\n{text}")
    except Exception:  # it has no words, or there is no standard error
        pass


def _end(streams: tuple[output.LineWriter, output.LineWriter]) -> None:
    """What an interpreter does at its end: threads, exit functions, what is still to be written."""
    steps = iter((_join_threads, atexit._run_exitfuncs, partial(output.write_out, *streams), _ignore_interrupts))
    while True:
        try:
            for step in steps:
                try:
                    step()
                except Exception:
                    pass  # it has told what it could
            return
        except KeyboardInterrupt:  # ends the step that it came in, and none of the others
            continue


def _join_threads() -> None:
    # A thread that is about to be gone counts no more, but has a lock there. (Since 3.13, only C knows.)
    going = getattr(threading, "_shutdown_locks", True)
    if threading.active_count() > 1 or threading._threading_atexits or going:  # type: ignore[attr-defined]
        threading._shutdown()  # type: ignore[attr-defined]


def _ignore_interrupts() -> None:
    signals.signal(signals.SIGINT, signals.SIG_IGN)
