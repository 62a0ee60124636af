"""Workers on this machine. All methods run in the crank's thread.

Every answer is an event, told in the order in which it must be known: first what the record says, then what
follows from it.
"""

from __future__ import annotations

import errno
import os
import pickle
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from procoro import kernel
from procoro.calls import Run, WorkerEnd
from procoro.crank import Crank
from procoro.engines.crowds import Crowds
from procoro.engines.template import UNTOLD, TemplateProcess
from procoro.scheduler.messages import Begun, Cut, Event, Recorded, SpanEnded, TakenBack, WorkerLost, WorkerReady
from procoro.wire import blocks, channel, codec, handles, record
from procoro.wire.exceptions import Failure, pack_failure
from procoro.wire.library import Library
from procoro.worker import heart, state

Tell = Callable[[Event], None]

AGAIN = 0.002  # seconds, after which what found no room is sent again

SPARED = 1.0  # seconds after which spare blocks are given back, if none was used

STANDING = 1_250_000_000  # ns after its last beat at which a loop stands still: a second, and the time to the next


class Member:
    """A worker, as the engine holds it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.pidfd = -1
        self.end, self.theirs = channel.pair()
        self.end.setblocking(False)
        try:
            self.record = record.Record.create()
        except BaseException:
            self.end.close()
            self.theirs.close()
            raise
        self.spans: dict[int, tuple[record.Recorded, int]] = {}  # by number: what is read, the first call
        self.free = list(range(record.SLOTS))
        self.crowds = Crowds(self.record)
        self.beat = 0  # the last one of its loop that was seen,
        self.starved = 0  # and for how long it had waited for a core by then, in ns
        self.asked = False  # where it stands, since that beat
        self.traced = record.SIZE  # what its stack was written up to
        self.lent: dict[int, blocks.Written] = {}  # by span: the input into whose block it may look
        self.blocks: dict[int, memoryview | OSError] = {}  # or why it could not be received
        self.unsent: deque[tuple[bytes, list[int]]] = deque()  # messages that found no room
        self.aside: deque[tuple[bytes, list[int]]] = deque()  # messages that came before a block that was needed
        self.failure: Failure | None = None
        self.ready = False
        self.reason = ""  # why it cannot be used
        self.killed = False
        self.memory = 0  # bytes, when last looked at
        self.loaded = 0
        self.taught = 0  # handles of the library that it was sent
        self.oom_kills = kernel.out_of_memory_kills()

    def close(self) -> None:
        """Give all that it held back."""
        for _, fds in self.unsent:
            for fd in fds:
                os.close(fd)
        self.unsent.clear()
        self.lent.clear()
        self.end.close()
        self.theirs.close()
        self.record.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)


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
        self._log = log
        self._library = library
        self._members: dict[int, Member] = {}
        self._spares = spares
        self._watches_spares = False
        self._template = template
        self._released: list[TemplateProcess] = []  # dead, but the lifelines of living workers hang on them
        self.initializer: tuple[int, int, bytes] | None = None

    # ---- starting and ending

    def start(self, number: int) -> None:
        """Start a worker under this number."""
        kernel.occupy_standard()
        try:
            member = self._members[number] = Member(number)
        except OSError as error:
            self._tell(WorkerLost(number, 0, _not_started(f"{error}")))
            return
        self._crank.watch(member.end, lambda: self._listen(member))
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
        packed = pickle.dumps((state.capture(), self.initializer, len(self._library.handles), *self._model), 5)
        own = [blocks.write_bytes([packed])]
        try:
            own.extend(map(_standard, range(3)))
            fds = [member.theirs.fileno(), member.record.fd, self._library.fd, *own]
            self._template.start(
                fds,
                lambda pid, pidfd: self._started(member, pid, pidfd),
                lambda status: self._exited(member, status),
            )
            self._teach(member)
        finally:
            for fd in own:
                os.close(fd)

    def _started(self, member: Member, pid: int, pidfd: int) -> None:
        if self._members.get(member.number) is not member:
            if pidfd >= 0:
                _send_kill(pidfd)  # we waited no longer for its start
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
        self._crank.call_later(UNTOLD, lambda: self._bury(member, WorkerEnd(member.pid, None)))

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
        while self._listen(member):
            pass
        self._look(member)
        self._listen(member)  # to what the look has put aside
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
            and kernel.out_of_memory_kills() > member.oom_kills
        )
        begun = member.record.header[record.TAKEN]
        member.close()
        killed = end.status is None or os.WIFSIGNALED(end.status)
        self._tell(WorkerLost(member.number, begun, end, killed and not end.reason))

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
            _send_kill(member.pidfd)

    def _give_start_up(self, member: Member) -> None:
        """The template does not answer. If it forks this worker after all, that is killed or finds nobody here."""
        if not member.pid:
            self._bury(member, WorkerEnd(0, None))

    def retire(self, number: int) -> None:
        """Ask an idle worker to leave."""
        member = self._members.get(number)
        if member is not None:
            self._send_to(member, member.end, [channel.QUIT])

    def close(self) -> None:
        """All workers are gone (or have to go, if this is the end by a bug): let the template go, too."""
        for member in self._members.values():
            self._crank.unwatch(member.end)
            if member.pidfd >= 0:
                self._crank.unwatch(member.pidfd)
            member.close()
        self._members.clear()
        self._spares.close()
        self._let_template_go()
        for template in self._released:
            template.release(self._crank)

    # ---- spans

    def send(
        self, number: int, span: int, first: int, place: int, shape: int, items: Sequence[Any], many: bool
    ) -> None:
        """Send a span. Raises OSError if its inputs find no room (a block cannot be made)."""
        member = self._members.get(number)
        if member is None:
            return
        packing, pieces, beside = self._pack(items)
        lent = beside if isinstance(beside, blocks.Written) else None
        block: int | None = beside.fd if isinstance(beside, blocks.Written) else beside
        try:
            self._teach(member)
            if packing & channel.PARTS:  # else there is no handle among them
                handles.send(member.end, codec.handles_of(items), send=partial(self._send_to, member))
            kind = channel.CROWD if many else channel.SPAN
            if many:
                slot = member.crowds.add(span, first, len(items))
            else:
                slot = member.free.pop()
                member.record.set_end(slot, span, len(items))
                member.spans[span] = record.Recorded(member.record, slot, span, len(items)), first
            head = channel.SPAN_HEAD.pack(kind, shape, packing, slot, span, len(items), place, self._library.length)
            if lent is not None:
                lent.looks += 1
                if not many:
                    member.lent[span] = lent
            self._send_to(member, member.end, [head, *pieces], () if block is None else (block,))
        finally:
            if block is not None and lent is None:
                os.close(block)

    def _pack(self, items: Sequence[Any]) -> tuple[int, list[bytes], int | blocks.Written | None]:
        try:
            return codec.pack_span(items)
        except OSError:  # no descriptor, or no memory: of both, spares hold some
            self._spares.drop()
            return codec.pack_span(items)

    def _teach(self, member: Member) -> None:
        """Send what came into the library since, and cannot be read there."""
        while member.taught < len(self._library.handles):
            handle = self._library.handles[member.taught]
            handles.send(member.end, [handle], channel.HANDLE_FOR_LIFE, partial(self._send_to, member))
            member.taught += 1

    def _send_to(self, member: Member, end: channel.End, pieces: Sequence[bytes], fds: Sequence[int] = ()) -> None:
        """Send a message, behind those that have found no room so far: one who does not read holds nobody up."""
        if not member.unsent:
            try:
                channel.send(end, pieces, fds)
                return
            except BlockingIOError:
                self._crank.call_later(AGAIN, lambda: self._send_again(member))
            except (BrokenPipeError, ConnectionError):
                return  # it is dead, and will be buried
        member.unsent.append((b"".join(pieces), [os.dup(fd) for fd in fds]))

    def _send_again(self, member: Member) -> None:
        while member.unsent and self._members.get(member.number) is member:
            message, fds = member.unsent[0]
            try:
                channel.send(member.end, [message], fds)
            except BlockingIOError:
                self._crank.call_later(AGAIN, lambda: self._send_again(member))
                return
            except (BrokenPipeError, ConnectionError):
                return
            member.unsent.popleft()
            for fd in fds:
                os.close(fd)

    def end_call(self, number: int, span: int, call: int) -> None:
        """Ask a worker to end a call that it runs beside others."""
        member = self._members.get(number)
        if member is not None:
            self._send_to(member, member.end, [channel.END_CALL_HEAD.pack(channel.END_CALL, span, call)])

    def take_back(self, number: int) -> None:
        """Let the worker begin no call but the one it may be in."""
        member = self._members.get(number)
        if member is None:
            return
        self._look(member)
        taken = member.record.header[record.TAKEN]
        for span, (recorded, _) in member.spans.items():
            # A span that is not taken up is not begun. One that is may be in its first unrecorded call.
            recorded.lower_end(recorded.seen + 1 if span == taken else (0 if span > taken else recorded.seen))
        lowered = member.crowds.lower_ends()
        # From here the worker sees these ends before it begins another call, or we see that it has begun one.
        kernel.barrier()
        self._look(member)
        taken = member.record.header[record.TAKEN]
        limits = {}
        for span, (recorded, _) in member.spans.items():
            begun = recorded.seen + 1 if span == taken else recorded.seen
            limits[span] = min(max(recorded.end, begun), recorded.count)
        self._tell(TakenBack(number, limits | member.crowds.limits(lowered)))

    def look(self) -> None:
        """Read all records."""
        for member in list(self._members.values()):
            if member.spans or member.crowds:
                self._look(member)

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
                    member.asked, member.traced = True, size
                    _send(member.pidfd, heart.SIGNAL)
                elif size > member.traced:
                    stack = os.pread(member.record.fd, size - member.traced, member.traced)
                    member.traced = size
                    yield member.pid, (now - beat) / 1e9, stack.decode(errors="replace")

    def busy(self) -> list[int]:
        """The workers that there are."""
        return list(self._members)

    def _look(self, member: Member) -> None:
        for span, (recorded, first) in member.spans.items():
            runs = []
            for at, kind, cells, start, data in recorded.read():
                runs.append(self._run(member, first + at, kind, cells, start, data))
            if runs:
                self._tell(Recorded(member.number, span, runs))
        loaded = member.record.header[record.LOADED]
        if loaded > member.loaded:
            member.loaded = loaded
            self._tell(Begun(member.number, loaded))
        if member.crowds:
            self._look_at_crowds(member)

    def _look_at_crowds(self, member: Member) -> None:
        runs: dict[int, list[Run]] = {}
        for span, first, kind, cells, start, data in member.crowds.outcomes():
            runs.setdefault(span, []).append(self._run(member, first, kind, cells, start, data))
        if (begun := member.crowds.begun()) is not None:
            self._tell(Begun(member.number, *begun))
        for span, ended in runs.items():
            self._tell(Recorded(member.number, span, ended))

    def _run(self, member: Member, first: int, kind: int, cells: Sequence[int], start: int, data: bytes) -> Run:
        if kind == record.VALUE:
            return Run(first, len(cells), True, len(data), codec.Values(data, cells, start))
        packed = self._packed(member, kind, data)
        nbytes = packed.block.nbytes if isinstance(packed, codec.BigValue) else len(data)
        return Run(first, 1, not isinstance(packed, Failure), nbytes, packed, kind == record.CUT)

    def _packed(self, member: Member, kind: int, data: bytes) -> Any:
        if kind in (record.FAILURE, record.CUT):
            return Failure(data)
        number = int.from_bytes(data, "little")
        if number not in member.blocks:
            self._take_in_blocks(member)  # it was sent before its outcome was recorded
        block = member.blocks.pop(number)
        if isinstance(block, OSError):
            return Failure(pack_failure(block))
        if kind == record.BIG_VALUE:
            return codec.BigValue(block)
        return Failure(blocks.body(block))

    # ---- what workers say

    def _take_in_blocks(self, member: Member) -> None:
        """Receive all that is there. What is no block waits for its turn: else we would look while we look."""
        try:
            while (received := channel.receive(member.end))[0]:
                message, fds = received
                if message[:1] == channel.BLOCK:
                    self._take_in_block(member, message, fds)
                else:
                    member.aside.append(received)
        except OSError:
            pass  # no more for now
        if member.aside:
            self._crank.post(lambda: self._listen(member))

    def _take_in_block(self, member: Member, message: bytes, fds: list[int]) -> None:
        number = channel.BLOCK_HEAD.unpack(message)[1]
        try:
            member.blocks[number] = blocks.map_received(fds)
        except OSError as error:
            member.blocks[number] = error

    def _listen(self, member: Member) -> bool:
        """Take in what it says. True: there may be more, which nobody waits for."""
        while True:
            try:
                message, fds = member.aside.popleft() if member.aside else channel.receive(member.end)
            except OSError:
                return False
            kind = message[:1]
            if not message:
                # Its end is closed by all; if it lives on all the same, it can get no more calls.
                self._crank.unwatch(member.end)
                return False
            if kind == channel.LOOK:
                self._look(member)
            elif kind in (channel.ENDED, channel.ENDED_AND_LEFT):
                self._end_span(member, message)
                if not member.aside:
                    return True  # asking once more gives the GIL away: a consumer that computes would keep it for 5 ms
            elif kind == channel.CROWDS_ENDED:
                self._end_crowds(member, message)
            elif kind == channel.CROWD_CUT:
                _, span, begun = channel.CROWD_CUT_HEAD.unpack(message)
                self._look(member)
                member.crowds.cut(span, begun)
                self._tell(Cut(member.number, span, begun))
            elif kind == channel.BLOCK:
                self._take_in_block(member, message, fds)
            elif kind == channel.READY:
                # It gets no calls before its pid is known: else its death could go unseen.
                member.ready = True
                if member.pid:
                    self._tell(WorkerReady(member.number))
            elif kind == channel.FAILED_TO_START:
                member.failure = Failure(message[1:])
            elif kind == channel.LOG:
                self._log(message[1:])

    def _end_span(self, member: Member, message: bytes) -> None:
        kind, span, ran, seconds = channel.ENDED_HEAD.unpack(message)
        self._look(member)
        lent = member.lent.pop(span, None)
        if lent is not None and kind == channel.ENDED_AND_LEFT:
            lent.looks -= 1
        recorded, _ = member.spans.pop(span)
        member.free.append(recorded.slot)
        self._tell(SpanEnded(member.number, span, ran, seconds))

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

    def _end_crowds(self, member: Member, message: bytes) -> None:
        self._look(member)
        for span, ran, seconds in channel.CROWD_ENDED.iter_unpack(message[1:]):
            member.crowds.remove(span)
            self._tell(SpanEnded(member.number, span, ran, seconds))


def _not_started(reason: str) -> WorkerEnd:
    end = WorkerEnd(0, None)
    end.reason = reason
    return end


def _send_kill(pidfd: int) -> None:
    _send(pidfd, signal.SIGKILL)


def _send(pidfd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def _standard(number: int) -> int:
    """A copy of a standard stream as it is now; /dev/null where it is closed."""
    try:
        return os.dup(number)
    except OSError:
        return os.open(os.devnull, os.O_RDWR)
