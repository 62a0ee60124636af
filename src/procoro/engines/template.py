"""The parent's side of the template process: one for all pools of this process, while there is one."""

from __future__ import annotations

import errno
import itertools
import os
import select
import sys
import threading
from collections.abc import Callable

from procoro import kernel
from procoro.wire import channel

TYPE_CHECKING = False  # by hand, see pool.py
if TYPE_CHECKING:
    from typing import ClassVar

    from procoro.crank import Crank

LINGER = 0.3  # seconds that the template and the crank are kept for who comes next
UNTOLD = 3.0  # seconds in which it tells how a process ended, if it is not stopped

Started = Callable[[int, int], None]  # pid, pidfd
Exited = Callable[[int], None]  # wait status; negative: an errno, it could not be forked


class TemplateProcess:
    """A running template. Ends when the last who uses it lets it go, or with this process.

    `patched`: gevent has taken the place of all that blocks, before anything else was imported.
    """

    _current: ClassVar[dict[bool, TemplateProcess]] = {}  # by `patched`
    _held: ClassVar[set[TemplateProcess]] = set()  # also the dead, while lifelines of workers hang on them
    _lock = threading.RLock()  # a signal handler may start a process while its thread does

    def __init__(self, patched: bool) -> None:
        self.patched = patched
        self.users = 0
        self.alive = True
        self._credentials = _credentials()  # what it forks has these: who has given up root, wants no more of it
        self._tickets = itertools.count(1)
        self._prepared: set[str] = set()
        self._worn = b""  # the state of the caller that was sent last, for processes with one call
        self._dressing = threading.RLock()  # held from sending that until the process is asked for
        self._waiting: dict[int, tuple[Started | None, Exited]] = {}
        self.pid, self.pidfd = 0, -1
        self.on_death: dict[object, Callable[[], None]] = {}  # by engine
        self.control, theirs = channel.pair()
        try:
            their_lifeline, self._lifeline = os.pipe()
            self._held.add(self)
            try:
                self.pid = _spawn(theirs.fileno(), their_lifeline, patched)
                self.pidfd = os.pidfd_open(self.pid)  # can be read when it is dead
            except BaseException:
                self._end()
                raise
            finally:
                os.close(their_lifeline)
        except BaseException:
            self.control.close()
            raise
        finally:
            theirs.close()
        self.control.setblocking(False)

    @classmethod
    def acquire(cls, patched: bool = False) -> TemplateProcess:
        """The template of this process and this kind, started if there is none that lives."""
        here = sys.modules.get("procoro.worker.state")  # in a worker; importing it would delay the first template
        if here is not None and here.depth >= here.DEEPEST:
            raise RecursionError(
                f"this would be a pool within {here.depth} others. Does a module make a pool as it is imported? A "
                "worker that imports it makes one, too, and so on: make it in a function, or below "
                "`if __name__ == '__main__'`"
            )
        with cls._lock:
            template = cls._current.get(patched)
            if template is None or not template.alive or template._credentials != _credentials():
                template = cls._current[patched] = cls(patched)
            template.users += 1
            return template

    def release(self, crank: Crank | None) -> None:
        """Let it go; the last user ends it, and with it every worker that is still alive.

        `crank`: the one that watches it; None if the user had not come so far.
        """
        with self._lock:
            self.users -= 1
            if self.users:
                return
            if self._current.get(self.patched) is self:
                del self._current[self.patched]
        self.alive = False
        if crank is not None:
            crank.unwatch(self.control)
        pidfd, self.pidfd = self.pidfd, -1  # first: a child that is forked meanwhile closes it, too
        os.close(pidfd)
        self.control.close()
        self._end()

    def _end(self) -> None:
        self._held.discard(self)
        os.close(self._lifeline)
        if self.pid:
            try:
                os.kill(self.pid, kernel.SIGKILL)
            except (ProcessLookupError, PermissionError):  # we have given rights up: the lifeline ends it
                pass
            self._reap()

    def _reap(self) -> None:
        """Wait for it, once: from then on its pid may be a stranger's."""
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:  # somebody else's os.wait() was faster
            pass
        self.pid = 0

    def prepare(self, modules: set[str]) -> None:
        """Let the template import what all that are to be forked would import, each for itself. Any thread."""
        new, self._prepared = modules - self._prepared, self._prepared | modules
        if new:
            try:
                channel.send(self.control, [channel.PREPARE, " ".join(sorted(new)).encode()])
            except OSError:
                pass  # it is gone, or busy: then they do

    def put_off_state(self) -> None:
        """It may not have received the state: it is sent again the next time."""
        self._worn = b""

    def start(self, fds: list[int], started: Started, exited: Exited) -> None:
        """Fork a worker that gets these descriptors. Raises OSError if the template is gone."""
        self._ask(channel.START, fds, started, exited)

    def start_process(self, fds: list[int], exited: Exited, modules: set[str], state: bytes) -> None:
        """Fork a process with one call, that imports these modules and has this state. Any thread.

        Its pid comes to the other end of the first of these descriptors, with a pidfd, or else the end of file.
        """
        import pickle  # here: what is imported above would delay the first template

        from procoro.wire import parcel
        from procoro.wire.blocks import Parts

        with self._dressing:
            self.prepare(modules)
            while True:
                try:
                    if state != self._worn:
                        parcel.send(self.control, channel.STATE, [Parts(pickle.dumps(state, 5), ())])
                        self._worn = state
                    self._ask(channel.START_PROCESS, fds, None, exited)
                    return
                except BlockingIOError:  # hundreds of threads do the same
                    poll = select.poll()
                    poll.register(self.control, select.POLLOUT)
                    poll.poll()

    def _ask(self, kind: bytes, fds: list[int], started: Started | None, exited: Exited) -> None:
        from procoro.worker import state  # here, likewise

        if tracker := state.tracker():
            self.prepare({state.TRACKER})
        ticket = next(self._tickets)
        self._waiting[ticket] = started, exited
        try:
            channel.send(self.control, [channel.START_HEAD.pack(kind, ticket)], [*fds, *tracker])
        except BaseException:
            self._waiting.pop(ticket, None)  # that it is dead may have been found meanwhile
            raise

    def send_signal(self, pid: int, pidfd: int, number: int) -> None:
        """Send a signal to one that was forked here, if it lives. Any thread.

        Raises PermissionError if it has taken rights that it was not started with.
        """
        import signal  # here, likewise

        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            if self._credentials == _credentials():
                raise
            try:  # we have given up rights that it has: the template has them, too
                channel.send(self.control, [channel.SIGNAL_HEAD.pack(channel.SIGNAL, pid, number)])
            except OSError:
                pass  # it is gone, and with it all that it has forked will be; or busy

    def listen(self, crank: Crank) -> None:
        """Hand on what the template has said; if it is gone, tell the engines."""
        while self.alive:
            try:
                message, fds = channel.receive(self.control)
            except BlockingIOError:
                return
            if not message:
                self.alive = False
                crank.unwatch(self.control)
                self._reap()  # it is about to be dead; a pool may live on for days
                self._waiting.clear()  # it will tell nothing any more, and they hold whoever asked
                for tell in list(self.on_death.values()):
                    tell()
            elif message[:1] == channel.STARTED:
                _, ticket, pid = channel.STARTED_HEAD.unpack(message)
                started = self._waiting[ticket][0]
                assert started is not None
                started(pid, fds[0] if fds else -1)  # -1: we have no descriptor free
            else:
                _, ticket, status = channel.EXITED_HEAD.unpack(message)
                waiting = self._waiting.pop(ticket, None)
                if waiting is not None:  # else a Ctrl-C has come behind its request
                    waiting[1](status)

    def forked(self) -> None:
        """In a child that the user forked: this is the parent's business."""
        self.alive = False
        os.close(self._lifeline)
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self.control.close()


def _credentials() -> tuple[object, ...]:
    return os.getresuid(), os.getresgid(), os.getgroups()


def _forget_in_child() -> None:
    TemplateProcess._current.clear()
    TemplateProcess._lock = threading.RLock()
    for template in TemplateProcess._held:
        template.forked()
    TemplateProcess._held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


def _spawn(control: int, lifeline: int, patched: bool) -> int:
    if not sys.executable:
        raise RuntimeError("procoro cannot start workers: sys.executable does not name a Python interpreter")
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    # Numbers above both, so that neither is in the other's way while they are moved.
    control_there = max(control, lifeline) + 1
    lifeline_there = control_there + 1
    statements = [
        "import gc, signal, sys",
        "gc.disable()",  # until all is imported: it would take a tenth of the start
        "signal.signal(signal.SIGINT, lambda *_: None)",  # first of all; see below
        "signal.signal(signal.SIGCHLD, signal.SIG_DFL)",  # who ignores it, as the caller may, learns no exit code
        "signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGTERM])",
        *["from gevent import monkey; monkey.patch_all()"] * patched,
        f"sys.path.insert(0, {root!r})",
        "from procoro.worker.template import main",
        "del sys.path[0]",
        f"main({control_there}, {lifeline_there})",
    ]
    actions = [
        (os.POSIX_SPAWN_DUP2, control, control_there),
        (os.POSIX_SPAWN_DUP2, lifeline, lifeline_there),
    ]
    arguments = [sys.executable, *_interpreter_flags(), "-P", "-c", "; ".join(statements)]
    # The terminal's Ctrl-C reaches the whole group: it must not end a Python that is just starting, with a traceback.
    # And who ends a service often sends SIGTERM to all its processes: a template lives as long as its user. What it
    # forks lets the signal in when it has its own handlers.
    blocked = [kernel.SIGINT, kernel.SIGTERM]
    try:
        return os.posix_spawn(sys.executable, arguments, os.environ, file_actions=actions, setsigmask=blocked)
    except OSError as error:
        if error.errno == errno.EBADF:  # so it is told that the numbers above are beyond the limit
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from None
        raise


def _interpreter_flags() -> list[str]:
    """The flags of this interpreter, for another like it."""
    letters = {
        "debug": "d",
        "dont_write_bytecode": "B",
        "no_site": "S",
        "verbose": "v",
        "bytes_warning": "b",
        "quiet": "q",
        "optimize": "O",
    }
    flags = [f"-{letter * getattr(sys.flags, name)}" for name, letter in letters.items() if getattr(sys.flags, name)]
    if sys.flags.isolated:
        flags.append("-I")
    else:
        flags += ["-E"] * sys.flags.ignore_environment + ["-s"] * sys.flags.no_user_site
    flags += [f"-W{option}" for option in sys.warnoptions]
    flags += [f"-X{name}" if value is True else f"-X{name}={value}" for name, value in sys._xoptions.items()]
    return flags
