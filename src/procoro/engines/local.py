"""Workers on this machine: how they start and end. All methods run in the crank's thread, and every answer is an event.

What goes to one of them, and what comes from it, is in `member`.
"""

from __future__ import annotations

import errno
import os
import pickle
import signal
import socket
import weakref
from collections.abc import Callable, Iterator
from functools import partial

from procoro import kernel, machine
from procoro.calls import WorkerEnd
from procoro.crank import Crank
from procoro.engines.member import Member, Tell
from procoro.engines.template import LINGER, UNTOLD, TemplateProcess
from procoro.scheduler.messages import WorkerDead, WorkerLost, WorkerReady
from procoro.wire import blocks, channel, handles, record
from procoro.wire.inputs import Inputs
from procoro.wire.library import Entry, Library
from procoro.worker import heart, state

SPARED = 1.0  # seconds after which spare blocks are given back, if none was used

STANDING = 1_250_000_000  # ns after its last beat at which a loop stands still: a second, and the time to the next


class LocalEngine:
    """The workers of one pool."""

    def __init__(
        self,
        crank: Crank,
        tell: Tell,
        log: Callable[[bytes], None],
        library: Library,
        spares: blocks.Spares,
        template: TemplateProcess,
        model: str,
        places: int,
    ) -> None:
        self._model = model, places
        self._crank = crank
        self._tell = tell
        self._library = library
        self._make = partial(Member, crank=crank, tell=tell, log=log, library=library, spares=spares)
        self._members: dict[int, Member] = {}
        self._spares = spares
        self._watches_spares = False
        self._template = template
        self._released: list[TemplateProcess] = []  # dead, but the lifelines of living workers hang on them
        self.initializer: tuple[bytes, list[handles.Handle]] | None = None  # a function with its arguments, packed

    # ---- starting and ending

    def start(self, number: int) -> None:
        """Start a worker under this number."""
        try:
            member = self._members[number] = self._make(number)
        except OSError as error:
            self._tell(WorkerLost(number, 0, _not_started(f"{error}")))
            return
        self._crank.watch(member.end, member.listen)
        self._request(member)

    def _request(self, member: Member) -> None:
        try:
            self._watch_template()
            self._send_request(member)
        except ConnectionError:
            pass  # the template is dying: its end will be told
        except Exception as error:  # no descriptor, say; or a state that does not pickle
            self._bury(member, _not_started(str(error) or repr(error)))

    def _watch_template(self) -> None:
        if not self._template.alive:
            self._let_template_go()
            self._template = TemplateProcess.acquire(self._template.patched)
        template = self._template
        template.on_death[self] = self._template_died
        self._crank.watch(template.control, lambda: template.listen(self._crank))

    def _let_template_go(self) -> None:
        self._template.on_death.pop(self, None)
        self._released.append(self._template)

    def _send_request(self, member: Member) -> None:
        initializer, found = self.initializer or (None, [])
        packed = pickle.dumps((state.capture(), initializer, *self._model), 5)
        own = [blocks.write_bytes([packed])]
        try:
            own.extend(map(_standard, (1, 2)))
            member.template = self._template
            fds = [member.theirs.fileno(), member.record.fd, self._library.fd, *own]
            self._template.start(
                fds,
                lambda pid, pidfd: self._started(member, pid, pidfd),
                lambda status: self._exited(member, status),
            )
            if initializer is not None:
                member.initialize(found)
        finally:
            kernel.close_all(own)

    def _started(self, member: Member, pid: int, pidfd: int) -> None:
        if self._members.get(member.number) is not member:
            if pidfd >= 0:
                _send(member, pid, pidfd, signal.SIGKILL)  # we waited no longer for its start
                os.close(pidfd)
            return
        member.pid, member.pidfd = pid, pidfd
        if pidfd < 0:  # we could neither kill it nor see it die: it is to leave at once
            member.reason = os.strerror(errno.EMFILE)
            member.end.shutdown(socket.SHUT_RDWR)
        else:
            self._crank.watch(pidfd, lambda: self._wait_for_status(member))
        member.theirs.close()  # so that its end is seen here, and a send to the dead fails
        if member.killed:
            self._signal(member)
        elif member.ready:
            self._tell(WorkerReady(member.number))

    def _exited(self, member: Member, status: int) -> None:
        if status < 0:
            self._bury(member, _not_started(os.strerror(-status)))
        else:
            end = WorkerEnd(member.pid, status)
            end.reason = member.reason
            self._bury(member, end)

    def _wait_for_status(self, member: Member) -> None:
        """It is dead, and the template is to say how. One that is stopped holds nobody up."""
        self._crank.unwatch(member.pidfd)
        self._tell(WorkerDead(member.number))
        gone = weakref.ref(member)  # it may be told at once: then nothing of it is to stay until then

        def bury() -> None:
            if (member := gone()) is not None:
                self._bury(member, WorkerEnd(member.pid, None))

        self._crank.call_later(UNTOLD, bury)

    def _template_died(self) -> None:
        """Workers live on without it; how they end can no more be learnt."""
        for member in list(self._members.values()):
            if not member.pid:
                # It may have been forked, and live: its record and its end must never have a second user. It
                # leaves when it sees that nobody is at the other end.
                self._bury(member, WorkerEnd(0, None))
            else:
                self._watch_orphan(member)

    def _watch_orphan(self, member: Member) -> None:
        self._crank.watch(member.pidfd, lambda: self._bury(member, WorkerEnd(member.pid, None)))

    def _bury(self, member: Member, end: WorkerEnd) -> None:
        if self._members.pop(member.number, None) is None:
            return
        while member.listen():
            pass
        member.look()
        while member.listen():  # to what the look has put aside
            pass
        self._crank.unwatch(member.end)
        if member.pidfd >= 0:
            self._crank.unwatch(member.pidfd)
        end.failure = member.failure
        if member.killed and not member.ready:
            end.reason = "the initializer did not return in time"
        end.memory = member.memory
        end.oom = (
            not member.killed
            and end.status is not None
            and os.WIFSIGNALED(end.status)
            and os.WTERMSIG(end.status) == signal.SIGKILL
            and machine.out_of_memory_kills() > member.oom_kills
        )
        begun = member.record.header[record.TAKEN]
        member.close()
        self._release_templates()
        killed = end.status is None or os.WIFSIGNALED(end.status)
        self._tell(WorkerLost(member.number, begun, end, killed and not end.reason))

    def _release_templates(self) -> None:
        """Those that are dead, when the last of their workers is, too."""
        used = {id(member.template) for member in self._members.values()}
        for template in [one for one in self._released if id(one) not in used]:
            self._released.remove(template)
            template.release(self._crank)

    def kill(self, number: int) -> None:
        """End a worker at once; its loss is told later."""
        member = self._members.get(number)
        if member is not None:
            member.killed = True
            self._signal(member)
            if not member.pid:
                self._crank.call_later(UNTOLD, lambda: self._give_start_up(member))

    def _signal(self, member: Member) -> None:
        if member.pidfd >= 0:
            _send(member, member.pid, member.pidfd, signal.SIGKILL)

    def _give_start_up(self, member: Member) -> None:
        """The template does not answer. If it forks this worker after all, that is killed or finds nobody here."""
        if not member.pid:
            self._bury(member, WorkerEnd(0, None))

    def retire(self, number: int) -> None:
        """Ask an idle worker to leave."""
        member = self._members.get(number)
        if member is not None:
            member.send([channel.QUIT])

    def close(self) -> None:
        """All workers are gone (or have to go, if this is the end by a bug): let the template go, too.

        Not at once: programs make one pool after another, and to start a template takes 50 ms.
        """
        for member in self._members.values():
            self._crank.unwatch(member.end)
            if member.pidfd >= 0:
                self._crank.unwatch(member.pidfd)
            member.close()
        self._members.clear()
        self._spares.close()
        self._let_template_go()
        for template in self._released:
            self._crank.call_later(LINGER, partial(template.release, self._crank))

    # ---- calls

    def send(
        self,
        number: int,
        span: int,
        first: int,
        function: Entry | None,
        shape: int,
        items: Inputs,
        many: bool,
    ) -> None:
        """Send a span. Raises OSError if its inputs find no room (a block cannot be made)."""
        member = self._members.get(number)
        if member is not None:
            member.send_span(span, first, function, shape, items, many)

    def end_call(self, number: int, span: int, call: int) -> None:
        """Ask a worker to end a call that it runs beside others."""
        member = self._members.get(number)
        if member is not None:
            member.send([channel.END_CALL_HEAD.pack(channel.END_CALL, span, call)])

    def take_back(self, number: int) -> None:
        """Let the worker begin no call but the one it may be in."""
        member = self._members.get(number)
        if member is not None:
            member.take_back()

    def look(self) -> None:
        """Read all records."""
        for member in list(self._members.values()):
            if member.has_calls:
                member.look()

    def memory(self, number: int) -> int:
        """Bytes that a worker holds."""
        member = self._members[number]
        held = kernel.resident(member.pid) if member.pid else 0
        member.memory = held or member.memory  # of one that is dying, what it held when it lived
        return held

    def standing(self, now: int) -> Iterator[tuple[int, float, str]]:
        """The workers whose event loop stands still at `now` (ns of the monotonic clock): pid, seconds, stack.

        Each is told once. The stack is asked for when that is first seen, and told at the next look. A worker that does
        not get a core does not stand still.
        """
        for member in self._members.values():
            beat = member.record.header[record.BEAT]
            if not beat or member.pidfd < 0:
                continue
            if member.beat != beat:
                member.beat, member.starved, member.asked = beat, kernel.starved(member.pid), False
            elif now - beat >= STANDING and now - beat - kernel.starved(member.pid) + member.starved >= STANDING:
                size = os.fstat(member.record.fd).st_size
                if not member.asked:
                    os.ftruncate(member.record.fd, record.SIZE)  # what it was asked before has been told
                    member.asked, member.traced = True, record.SIZE
                    _send(member, member.pid, member.pidfd, heart.SIGNAL)
                elif size > member.traced:
                    stack = os.pread(member.record.fd, size - member.traced, member.traced)
                    member.traced = size
                    yield member.pid, (now - beat) / 1e9, stack.decode(errors="replace")

    def workers(self) -> list[int]:
        """The numbers of all workers that there are, with calls or without."""
        return list(self._members)

    def watch_spares(self) -> None:
        """There are some: keep them as long as they are used."""
        if not self._watches_spares:
            self._watches_spares = True
            taken = self._spares.taken
            self._crank.call_later(SPARED, lambda: self._drop_spares(taken))

    def _drop_spares(self, taken: int) -> None:
        self._watches_spares = False
        if self._spares.taken == taken:
            self._spares.drop()
        else:
            self.watch_spares()


def _not_started(reason: str) -> WorkerEnd:
    end = WorkerEnd(0, None)
    end.reason = reason
    return end


def _send(member: Member, pid: int, pidfd: int, number: signal.Signals) -> None:
    try:
        member.template.send_signal(pid, pidfd, number)
    except PermissionError:  # a call has made its worker another user's: it leaves when our end is closed
        pass


def _standard(number: int) -> int:
    """A copy of a standard stream as it is now; /dev/null where it is closed."""
    try:
        return os.dup(number)
    except OSError:
        return os.open(os.devnull, os.O_RDWR)
