"""The clean process from which all workers are forked: single-threaded, preloaded, no code of the user's.

It answers requests: a start request names a ticket and brings the descriptors and the state that the new worker
needs; the pid goes back, with a pidfd, and later the status with which the worker ended (only its parent can
learn that).
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import closing

from procoro import kernel
from procoro.wire import channel, handles, parcel
from procoro.worker import loop, output, process, state

fork, waitpid = kernel.original("os", "fork"), kernel.original("os", "waitpid")
OWN_PATH = sys.path[1:]  # without where procoro is: see `_spawn`
FEWEST = 3  # descriptors that come with a request: a connection, and where to write


def main(control_fd: int, lifeline: int) -> None:
    """Serve start requests until the other side is gone."""
    control = channel.adopt(control_fd)
    kernel.occupy_standard()  # the caller may have had files of its own there, which no program that it starts gets
    os.closerange(3, min(control_fd, lifeline))
    os.closerange(min(control_fd, lifeline) + 1, max(control_fd, lifeline))
    os.closerange(max(control_fd, lifeline) + 1, os.sysconf("SC_OPEN_MAX"))
    for fd in (control_fd, lifeline):
        os.set_inheritable(fd, False)  # by programs that calls start
    kernel.hang_on(kernel.open_lifeline(lifeline))
    kernel.accept_barriers()
    # A handler that does nothing: SIG_IGN would be inherited by programs that calls start.
    signal.signal(signal.SIGINT, _leave_it_to_the_caller)
    output.make_streams()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # nobody but the caller reads from the terminal
    os.close(null)
    gc.freeze()  # workers share these pages for as long as nobody touches them
    gc.enable()
    Template(control, lifeline).run()


def _leave_it_to_the_caller(signum: int, frame: object) -> None:
    """The terminal's Ctrl-C reaches the whole group: the caller decides what becomes of its workers."""
    process.interrupted.append(signum)


class Template:
    """The loop of the template process."""

    def __init__(self, control: channel.End, lifeline: int) -> None:
        self._control = control
        self._lifeline = lifeline
        self._has_state = False  # of the caller, for processes with one call
        self._children: dict[int, tuple[int, int]] = {}  # pidfd: ticket, pid
        self._poll = kernel.poll()
        self._poll.register(control, select.POLLIN)

    def run(self) -> None:
        """Until the caller is gone."""
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._control.fileno():
                    self._reap(fd)
                    continue
                message, fds = channel.receive(self._control)
                if not message:
                    os._exit(0)
                if message[:1] == channel.PREPARE:
                    _prepare(message[1:].decode().split())
                elif message[:1] == channel.STATE:
                    self._put_on(message, fds)
                elif message[:1] == channel.SIGNAL:
                    self._signal(*channel.SIGNAL_HEAD.unpack(message)[1:])
                else:
                    kind, ticket = channel.START_HEAD.unpack(message)
                    self._fork(ticket, fds, loop.run if kind == channel.START else process.run)

    def _put_on(self, message: bytes, fds: Sequence[int]) -> None:
        try:
            (load,) = parcel.unpack(message, fds)
        except OSError:  # no descriptor was free for it
            self._has_state = False
            return
        if not self._has_state:
            process.rehearse()
        state.Ahead.put_on(load())
        gc.freeze()
        self._has_state = True

    def _fork(self, ticket: int, fds: list[int], life: Callable[[list[int]], int]) -> None:
        # Too few: no descriptor was free for the rest.
        if len(fds) < FEWEST or not (self._has_state or life is loop.run):
            self._tell(channel.EXITED, ticket, -errno.EMFILE)
            kernel.close_all(fds)
            return
        process.interrupted.clear()
        try:
            own = kernel.open_lifeline(self._lifeline)
            try:
                if not (pid := fork()):
                    self._become(life, fds, own)
            finally:
                os.close(own)
        except OSError as error:
            self._tell(channel.EXITED, ticket, -(error.errno or errno.EAGAIN))
            kernel.close_all(fds)
            return
        pidfd = -1
        try:
            pidfd = os.pidfd_open(pid)
            message = [channel.STARTED_HEAD.pack(channel.STARTED, ticket, pid)]
            if life is loop.run:
                channel.send(self._control, message, [pidfd])
            else:  # by its own connection, on which its caller waits
                with closing(channel.adopt(fds.pop(0))) as end:
                    channel.send(end, message, [pidfd])
        except ConnectionError:  # nobody waits any more
            pass
        except OSError as error:  # no descriptor is free, or too many are under way
            os.kill(pid, signal.SIGKILL)
            waitpid(pid, 0)
            if pidfd >= 0:
                os.close(pidfd)
            self._tell(channel.EXITED, ticket, -(error.errno or errno.EMFILE))
            kernel.close_all(fds)
            return
        self._children[pidfd] = ticket, pid
        self._poll.register(pidfd, select.POLLIN)
        kernel.close_all(fds)

    def _signal(self, pid: int, number: int) -> None:
        """The caller may not: it has given up rights that its processes were started with."""
        if any(pid == child for _, child in self._children.values()):  # not reaped: the number is still its
            try:
                os.kill(pid, number)
            except PermissionError:  # it has taken more than we have, too
                pass

    def _reap(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        os.close(pidfd)
        ticket, pid = self._children.pop(pidfd)
        self._tell(channel.EXITED, ticket, waitpid(pid, 0)[1])

    def _tell(self, kind: bytes, ticket: int, number: int) -> None:
        try:
            channel.send(self._control, [channel.EXITED_HEAD.pack(kind, ticket, number)])
        except OSError:
            os._exit(0)

    def _become(self, life: Callable[[list[int]], int], fds: list[int], lifeline: int) -> None:
        status = 1
        try:
            self._control.close()
            for pidfd in self._children:
                os.close(pidfd)
            kernel.hang_on(lifeline)
            status = life(fds)
            for farewell in handles.farewells:
                farewell()
        except SystemExit as leaving:  # a child that a call has forked leaves as any program would
            status = output.exit_status(leaving)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            os._exit(status)


def _prepare(modules: Sequence[str]) -> None:
    """Import what every process to come would import for itself. What fails here may be found there."""
    path, sys.path[:] = sys.path[:], OWN_PATH
    for name in modules:
        try:
            __import__(name)
        except Exception:
            pass
    sys.path[:] = path
    gc.freeze()
