"""A process with one call, as its parent holds it: asked of the template, heard out, buried. No pool, no scheduler."""

from __future__ import annotations

import errno
import os
import pickle
import select
import signal
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from procoro import kernel
from procoro.crank import Crank
from procoro.engines.template import LINGER, UNTOLD, TemplateProcess
from procoro.sleeping import Sleepers
from procoro.wire import channel, handles, parcel
from procoro.wire.blocks import Parts

if TYPE_CHECKING:
    import asyncio

QUIET = 0.3  # seconds within which most end, and whoever has handed its outcome over
UNKNOWN = 255  # the exit code of a process whose end nobody could learn, as `multiprocessing` has it


class Call:
    """What a process is to do, packed."""

    __slots__ = ("__weakref__", "about", "call", "handles", "modules", "state")

    def __init__(
        self, state: bytes, about: Any, call: Parts, found: Sequence[handles.Handle], modules: set[str]
    ) -> None:
        self.state = state  # of the caller
        self.about = Parts(pickle.dumps(about, 5), ())
        self.call = call
        self.handles = found
        for handle in found:
            handle.awaited_by.add(self)
        self.modules = modules  # that it will import


class Child:
    """A process that was started: by its caller alone, until it has its call; from then on the crank watches it.

    Holds two descriptors while it lives, its pidfd alone from then until it is closed.
    """

    described = "", ""  # its function and arguments
    ended = False  # also of one whose making was broken off

    def __init__(
        self,
        template: TemplateProcess,
        crank: Crank,
        log: Callable[[bytes], None],
        over: Callable[[Child, list[asyncio.Future[None]]], None],
    ) -> None:
        self.crank = crank
        self.pid = 0
        self.pidfd = -1
        self.lock = threading.RLock()  # of its end, and of its outcome while that is opened
        self._sleepers = Sleepers()
        self.begun = False  # it has been sent its call
        self.ended = False
        self._watched = False  # by the crank
        self._early: int | None = None  # what the template has told of its end before that
        self._leaving = False  # it has ended as far as we have heard
        self.failed: OSError | None = None  # why it could not be started
        self.lost = False  # it could not, because the template has died; another may
        self.asked = False  # somebody has asked for its outcome
        self.outcome: tuple[bytes, list[int]] | None = None  # its message; None: there is none
        self.opened: tuple[bool, Any] | None = None  # the outcome, as the front has opened it
        self.status: int | None = None  # as `wait` gives it; None if nobody could learn it
        self._arrived: list[handles.Arrived] = []  # handles that came before its outcome
        self._template = template
        self._log = log
        self._over: Callable[[Child, list[asyncio.Future[None]]], None] | None = over
        self._awaiting: list[asyncio.Future[None]] = []
        try:
            self._end, self._theirs = channel.pair()
        except BaseException:
            crank.post(lambda: self.let_go(template, crank))
            raise
        self._end.setblocking(False)

    # ---- in every thread

    @property
    def exitcode(self) -> int | None:
        """As in `multiprocessing`; None while it lives."""
        if not self.ended:
            return None
        if self.status is not None:
            return os.waitstatus_to_exitcode(self.status)
        return 0 if self.outcome is not None and self.outcome[0][:1] == channel.RETURNED else UNKNOWN

    @property
    def lives(self) -> bool:
        """Has it begun, and not ended?"""
        return self.begun and not self.ended

    def has_ended(self) -> bool:
        """Has it? If it is dead, and nobody knows how so far, its template is about to tell."""
        if not self.ended and self.pidfd >= 0 and not self.crank.is_here():
            poll = kernel.poll()
            poll.register(self.pidfd, select.POLLIN)
            if poll.poll(0):
                self._wait_until(lambda: self.ended, 2 * UNTOLD)
        return self.ended

    def _wait_until(self, predicate: Callable[[], bool], timeout: float | None) -> bool:
        if self.crank.is_here() and not predicate():
            raise RuntimeError(
                "a callback waits for a process: callbacks run in procoro's own thread, which would have to tell it. "
                "Start the wait in a thread instead"
            )
        return self._sleepers.sleep(predicate, timeout)

    def begin(self, call: Call) -> bool:
        """Have it forked, wait until it is there, and hand its call over; False if it has ended before. Once.

        All of it here, without the crank: who starts a hundred would wait two hundred times for a change of threads.
        """
        if self.crank.is_here():  # nobody would hear the template meanwhile
            raise RuntimeError(
                "a callback starts a process: callbacks run in procoro's own thread, which would have to tell it what "
                "became of that. Start it in a thread instead"
            )
        fds: list[int] = []
        try:
            body, fds = parcel.pack([call.about, call.call])
            if self._ask(call) and self._comes():
                with self.lock:
                    if not self.ended:
                        self.begun = True
                        handles.send(partial(channel.send, self._end), call.handles)
                        channel.send(self._end, [channel.CALL, body], fds)
        except ConnectionError:
            pass  # it is dead, and will be buried
        finally:
            kernel.close_all(fds)
        return self.begun

    def _ask(self, call: Call) -> bool:
        """Ask the template for it; False if that cannot be done."""
        try:
            fds = [self._theirs.fileno(), 1, 2]
            self._template.start_process(fds, self._exited, call.modules, call.state)
            return True
        except ConnectionError:
            self._hear_why()
        except OSError as error:
            self._end_soon(error)
        return False

    def _comes(self) -> bool:
        """Wait for word of it; False if there was none, and it has ended."""
        self._theirs.close()  # so that its end is seen here, and a send to the dead fails
        fds: list[int] = []
        try:
            poll = select.poll()  # gevent's own, where that has patched
            for each in (self._end, self._template.pidfd):  # whatever that has forked keeps the connection open
                poll.register(each, select.POLLIN)
            poll.poll()
            message, fds = channel.receive(self._end)
            if not message:
                self._hear_why()
                return False
            _, _, self.pid = channel.STARTED_HEAD.unpack(message)
            if not fds:  # we could neither kill it nor see it die. It leaves, since it gets no call
                self._end_soon(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
                return False
            self.pidfd, fds = fds[0], []
        except BlockingIOError:  # the template is dead
            self._hear_why()
            return False
        finally:  # also if a signal handler has raised
            kernel.close_all(fds)
        self.crank.post_soon(self._watch)
        return True

    def _hear_why(self) -> None:
        """It is not there. The template tells the reason; or it is dead, and the crank finds that."""
        self.crank.post(self._watch)
        self._wait_until(lambda: self.ended, None)

    def _end_soon(self, error: OSError) -> None:
        self.crank.post(lambda: self._bury(None, error))
        self._wait_until(lambda: self.ended, None)

    def give_up(self) -> None:
        """Its start has been broken off. If it has been told nothing, it leaves when nobody is at the other end."""

        def end() -> None:
            self.send_signal(signal.SIGKILL)
            self._bury(None)

        self.crank.post(end)

    def wait(self, timeout: float | None) -> bool:
        """Wait for its end; has it come?"""
        return self._wait_until(lambda: self.ended, timeout)

    def tell_end_to(self, waiting: asyncio.Future[None]) -> bool:
        """Add one to those who are told of its end; False if it has come."""
        with self.lock:
            if not self.ended:
                self._awaiting.append(waiting)
            return not self.ended

    def tell_no_more(self, waiting: asyncio.Future[None]) -> None:
        """Who was to be told, waits no longer."""
        with self.lock:
            if waiting in self._awaiting:
                self._awaiting.remove(waiting)

    def unpack(self) -> tuple[bytes, Any]:
        """Where an outcome is unpacked, once: its kind, and what it holds. Raises whatever unpickling it raises."""
        assert self.outcome is not None
        message, fds = self.outcome
        arrived, self._arrived = self._arrived, []
        self.outcome = message[:1], []
        with handles.arriving(arrived):
            (load,) = parcel.unpack(message, fds)
            return message[:1], load()

    def send_signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        if self.ended or self.pidfd < 0:
            return
        self._template.send_signal(self.pid, self.pidfd, number)

    def close(self) -> None:
        """Give the descriptors of a process that has ended back."""
        pidfd, self.pidfd = self.pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)
        if self.outcome is not None:
            kernel.close_all(self.outcome[1])
            self.outcome = None
            handles.close(self._arrived)
            self._arrived = []

    def forked(self) -> None:
        """In a child that the user forked: this is the parent's business."""
        self._end.close()
        self._theirs.close()
        self.close()

    def __del__(self) -> None:
        if self.ended:
            self.close()

    @staticmethod
    def let_go(template: TemplateProcess, crank: Crank) -> None:
        """In the crank's thread: one who used both, less."""
        template.release(crank)
        crank.release()

    # ---- in the crank's thread, from here on: living

    def _watch(self) -> None:
        """From here on the crank knows of it."""
        if self.ended:
            return
        self._watched = True
        if self._early is not None:
            self._exited(self._early)
            return
        template = self._template
        template.on_death[self] = self._template_died
        if self.pidfd >= 0:
            self.crank.watch(self._end, self._listen)
            self._later(QUIET, Child._watch_end)
        if template.alive:
            self.crank.watch(template.control, lambda: template.listen(self.crank))
        else:
            self._template_died()

    # ---- ending

    def _template_died(self) -> None:
        if self.pid:
            self.crank.watch(self.pidfd, lambda: self._bury(None))
        else:
            self._bury(None, lost=True)

    def _exited(self, status: int) -> None:
        if not self._watched:
            self._early = status
        elif status < 0:
            self._template.put_off_state()
            self._bury(None, failed=OSError(-status, os.strerror(-status)))
        else:
            self._bury(status)

    def _expect_end(self) -> None:
        """Nothing more is to be heard, as a rule, until the template tells of it."""
        if not self._leaving:
            self._leaving = True
            self.crank.unwatch(self._end)
            self._later(QUIET, Child._listen_again)

    def _listen_again(self) -> None:
        if not self.ended:
            self.crank.watch(self._end, self._listen)

    def _watch_end(self) -> None:
        """Wait for the end of one that has lived for `QUIET`. Most end earlier, and of these the template tells."""
        if not self.ended:
            if self._template.alive:
                self.crank.watch(self.pidfd, self._wait_for_status)
            else:
                self._template_died()

    def _wait_for_status(self) -> None:
        """It is dead, and the template is to say how. One that is stopped holds nobody up."""
        self.crank.unwatch(self.pidfd)
        self._later(UNTOLD, lambda child: child._bury(None))

    def _later(self, seconds: float, call: Callable[[Child], None]) -> None:
        """For one that may be told at once, and dropped: its descriptors are not to stay until then."""
        gone = weakref.ref(self)

        def look() -> None:
            if (child := gone()) is not None:
                call(child)

        self.crank.call_later(seconds, look)

    def _bury(self, status: int | None, failed: OSError | None = None, lost: bool = False) -> None:
        if self.ended:
            return
        self._leaving = True
        self._listen()
        self.crank.unwatch(self._end)
        if self.pidfd >= 0:
            self.crank.unwatch(self.pidfd)
        self._template.on_death.pop(self, None)
        self.status, self.failed, self.lost = status, failed, lost
        template, crank, over, self._over = self._template, self.crank, self._over, None
        with self.lock:
            self.ended = True
            self._end.close()
            self._theirs.close()
        self._sleepers.wake()
        crank.call_later(LINGER, partial(self.let_go, template, crank))  # static: of us nothing stays until then
        if over is not None:
            awaiting, self._awaiting = self._awaiting, []
            over(self, awaiting)

    # ---- what it says

    def _listen(self) -> None:
        while True:
            try:
                message, fds = channel.receive(self._end)
            except OSError:
                return
            kind = message[:1]
            if not message:
                self.crank.unwatch(self._end)
                self._expect_end()
                return
            if kind == channel.LOG:
                self._log(message[1:])
            elif kind == channel.HANDLE:
                self._arrived.append(handles.arrive(message, fds))
            else:
                self.outcome = message, fds
                if kind == channel.RAISED:
                    self._answer()
                elif not self._leaving:  # else this is to hear it out
                    self._expect_end()
                    return

    def _answer(self) -> None:
        try:
            channel.send(self._end, [channel.ASKED if self.asked else channel.UNASKED])
        except OSError:
            pass  # it is gone
