"""One worker, as the engine holds it: what it is sent, what it says and what it has recorded. In the crank's thread."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from procoro import kernel, machine
from procoro.calls import Run
from procoro.crank import Crank
from procoro.engines.crowds import Crowds
from procoro.engines.series import Series
from procoro.scheduler.messages import Begun, Cut, Event, Recorded, SpanEnded, TakenBack, WorkerReady
from procoro.wire import blocks, channel, handles, inputs, record
from procoro.wire.exceptions import Failure, pack_failure
from procoro.wire.library import Contents, Entry, Library
from procoro.wire.values import BigValue, Numbers, Texts, Values

if TYPE_CHECKING:
    from procoro.engines.template import TemplateProcess

Tell = Callable[[Event], None]

AGAIN = 0.002  # seconds, after which what found no room is sent again
BURST = 64  # messages of a worker that are taken in at a time: one that hands blocks over may always have another


class Member:
    """A worker.

    All is told as events, in the order in which it must be known: first what the record says, then what follows from
    it.
    """

    def __init__(
        self,
        number: int,
        crank: Crank,
        tell: Tell,
        log: Callable[[bytes], None],
        library: Library,
        spares: blocks.Spares,
    ) -> None:
        self.number = number
        self._crank = crank
        self._tell = tell
        self._library = library
        self._log = log
        self._spares = spares
        self.template: TemplateProcess  # that it was asked of; set then
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
        self.series = Series(self.record)
        self.crowds = Crowds(self.record)
        self._lent: dict[int, blocks.Written] = {}  # by span: the input into whose block it may look
        self.blocks: dict[int, memoryview | OSError] = {}  # or why it could not be received
        self._unsent: deque[tuple[bytes, list[int]]] = deque()  # messages that found no room
        self._aside: deque[tuple[bytes, list[int]]] = deque()  # messages that came before a block that was needed
        self._loaded = 0
        self._contents = 0  # of the library, that it was told of last
        self._unread: deque[tuple[int, Contents]] = deque()  # those that it may be about to read, by the span with them
        self._taught: set[int] = set()  # places of names whose handles it was sent
        self.beat = 0  # the last one of its loop that was seen,
        self.starved = 0  # and for how long it had waited for a core by then, in ns
        self.asked = False  # where it stands, since that beat
        self.traced = record.SIZE  # what its stack was written up to
        self.failure: Failure | None = None
        self.ready = False
        self.reason = ""  # why it cannot be used
        self.killed = False
        self.memory = 0  # bytes, when last looked at
        self.oom_kills = machine.out_of_memory_kills()

    def close(self) -> None:
        """Give all that it held back."""
        for _, fds in self._unsent:
            kernel.close_all(fds)
        self._unsent.clear()
        self._lent.clear()
        self.end.close()
        self.theirs.close()
        self.record.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)

    # ---- what it is sent

    def initialize(self, found: Sequence[handles.Handle]) -> None:
        """Let it run the initializer that it was started with, in which there are these handles."""
        contents = self.teach(0)
        handles.send(self.send, found)
        self.send([channel.INITIALIZE_HEAD.pack(channel.INITIALIZE, contents)])

    def send_span(
        self, span: int, first: int, function: Entry | None, shape: int, items: inputs.Inputs, many: bool
    ) -> None:
        """Send a span. Raises OSError if its inputs find no room (a block cannot be made)."""
        packing, pieces, beside = self._pack(items)
        lent = beside if isinstance(beside, blocks.Written) else None
        block: int | None = beside.fd if isinstance(beside, blocks.Written) else beside
        try:
            contents = self.teach(span)
            if function is not None and function.handles:
                handles.send(self.send, function.handles)
            if packing & channel.PARTS:  # else there is no handle among them
                found, uses = inputs.handles_of(items)
                handles.send(self.send, found, uses)
            if many:
                slot = self.crowds.add(span, first, len(items))
            else:
                slot = self.series.add(span, first, len(items))
            kind = channel.CROWD if many else channel.SPAN
            place = 0 if function is None else function.place
            head = channel.SPAN_HEAD.pack(kind, shape, packing, slot, span, len(items), place, contents)
            try:
                self.send([head, *pieces], () if block is None else (block,))
            except OSError:
                (self.crowds if many else self.series).remove(span)
                raise
            if lent is not None:
                lent.looks += 1
                if not many:
                    self._lent[span] = lent
        finally:
            if block is not None and lent is None:
                os.close(block)

    def _pack(self, items: inputs.Inputs) -> tuple[int, list[bytes], int | blocks.Written | None]:
        try:
            return inputs.pack_span(items)
        except OSError:  # no descriptor, or no memory: of both, spares hold some
            self._spares.drop()
            return inputs.pack_span(items)

    def teach(self, span: int) -> int:
        """Send the handles in the names of `__main__` that are new to it; where the contents stand that list these.

        `span`: with which they are sent; 0: with the request to start it.
        """
        contents = self._library.contents()
        if contents.place != self._contents:
            for entry in contents.carrying:
                if entry.place not in self._taught:
                    handles.send(self.send, entry.handles)
            self._taught = {entry.place for entry in contents.carrying}
            self._contents = contents.place
            self._unread.append((span, contents))
        return self._contents

    def _has_read(self) -> None:
        """It has taken up the span `_loaded`, and with it the contents that came by then."""
        while self._unread and self._unread[0][0] <= self._loaded:
            self._unread.popleft()

    def send(self, pieces: Sequence[bytes], fds: Sequence[int] = ()) -> None:
        """Send a message, behind those that have found no room so far: one who does not read holds nobody up."""
        if not self._unsent:
            try:
                channel.send(self.end, pieces, fds)
                return
            except BlockingIOError:
                self._crank.call_later(AGAIN, self._send_again)
            except (BrokenPipeError, ConnectionError):
                return  # it is dead, and will be buried
        self._unsent.append((b"".join(pieces), [os.dup(fd) for fd in fds]))

    def _send_again(self) -> None:
        while self._unsent:
            message, fds = self._unsent[0]
            try:
                channel.send(self.end, [message], fds)
            except BlockingIOError:
                self._crank.call_later(AGAIN, self._send_again)
                return
            except (BrokenPipeError, ConnectionError):
                return
            self._unsent.popleft()
            kernel.close_all(fds)

    def take_back(self) -> None:
        """Let it begin no call but the one it may be in."""
        self.look()
        self.series.lower_ends()
        lowered = self.crowds.lower_ends()
        # From here the worker sees these ends before it begins another call, or we see that it has begun one.
        kernel.barrier()
        limits = self.series.limits(self.look)
        self._tell(TakenBack(self.number, limits | self.crowds.limits(lowered)))

    # ---- what it has recorded

    @property
    def has_calls(self) -> bool:
        """Is any span with it?"""
        return bool(self.series.out or self.crowds)

    def look(self) -> None:
        """Read its record."""
        for span, recorded in self.series.out.items():
            first = recorded.first
            runs = [self._run(first + at, kind, cells, start, data) for at, kind, cells, start, data in recorded.read()]
            if runs:
                self._tell(Recorded(self.number, span, runs))
        loaded = self.record.header[record.LOADED]
        if loaded > self._loaded:
            self._loaded = loaded
            self._has_read()
            self._tell(Begun(self.number, loaded))
        if self.crowds:
            self._look_at_crowds()

    def _look_at_crowds(self) -> None:
        runs: dict[int, list[Run]] = {}
        for span, first, kind, cells, start, data in self.crowds.outcomes():
            runs.setdefault(span, []).append(self._run(first, kind, cells, start, data))
        if (begun := self.crowds.begun()) is not None:
            self._tell(Begun(self.number, *begun))
        for span, ended in runs.items():
            self._tell(Recorded(self.number, span, ended))

    def _run(self, first: int, kind: int, cells: Sequence[int], start: int, data: bytes) -> Run:
        if kind == record.VALUE:
            return Run(first, len(cells), True, len(data), Values(data, cells, start))
        if kind in record.FORMATS:
            return Run(first, len(cells), True, len(data), Numbers(data, record.FORMATS[kind]))
        if kind == record.TEXT:
            return Run(first, len(cells), True, len(data), Texts(data, cells, start))
        packed = self._packed(kind, data)
        nbytes = packed.block.nbytes if isinstance(packed, BigValue) else len(data)
        return Run(first, 1, not isinstance(packed, Failure), nbytes, packed, kind == record.CUT)

    def _packed(self, kind: int, data: bytes) -> Any:
        if kind in (record.FAILURE, record.CUT):
            return Failure(data)
        number = int.from_bytes(data, "little")
        if number not in self.blocks:
            self._take_in_blocks(number)
        block = self.blocks.pop(number)
        if isinstance(block, OSError):
            return Failure(pack_failure(block))
        if kind == record.BIG_VALUE:
            return BigValue(block)
        return Failure(blocks.body(block))

    # ---- what it says

    def listen(self) -> bool:
        """Take in what it says. True: there may be more, which comes later: others are to be heard, too."""
        for _ in range(BURST):
            try:
                message, fds = self._aside.popleft() if self._aside else channel.receive(self.end)
            except OSError:
                return False
            kind = message[:1]
            if not message:
                # Its end is closed by all; if it lives on all the same, it can get no more calls.
                self._crank.unwatch(self.end)
                return False
            if kind == channel.LOOK:
                self.look()
            elif kind in (channel.ENDED, channel.ENDED_AND_LEFT):
                self._end_span(message)
                if not self._aside:
                    return True  # asking once more gives the GIL away: a consumer that computes would keep it for 5 ms
            elif kind == channel.CROWDS_ENDED:
                self._end_crowds(message)
            elif kind == channel.CROWD_CUT:
                _, span, begun = channel.CROWD_CUT_HEAD.unpack(message)
                self.look()
                self.crowds.cut(span, begun)
                self._tell(Cut(self.number, span, begun))
            elif kind == channel.BLOCK:
                self._take_in_block(message, fds)
            elif kind == channel.READY:
                # It gets no calls before its pid is known: else its death could go unseen.
                self.ready = True
                self._has_read()
                if self.pid:
                    self._tell(WorkerReady(self.number))
            elif kind == channel.FAILED_TO_START:
                self.failure = Failure(message[1:])
            elif kind == channel.LOG:
                self._log(message[1:])
        if self._aside:
            self._crank.post(self.listen)
        return True

    def _end_span(self, message: bytes) -> None:
        kind, span, ran, seconds = channel.ENDED_HEAD.unpack(message)
        self.look()
        lent = self._lent.pop(span, None)
        if lent is not None and kind == channel.ENDED_AND_LEFT:
            lent.looks -= 1
        self.series.remove(span)
        self._tell(SpanEnded(self.number, span, ran, seconds))

    def _end_crowds(self, message: bytes) -> None:
        self.look()
        for span, ran, seconds in channel.CROWD_ENDED.iter_unpack(message[1:]):
            self.crowds.remove(span)
            self._tell(SpanEnded(self.number, span, ran, seconds))

    def _take_in_blocks(self, number: int) -> None:
        """Receive this block, which was sent before its outcome was recorded, and what came before it.

        What is no block waits for its turn: else we would look while we look.
        """
        try:
            while number not in self.blocks and (received := channel.receive(self.end))[0]:
                message, fds = received
                if message[:1] == channel.BLOCK:
                    self._take_in_block(message, fds)
                else:
                    self._aside.append(received)
        except OSError:
            pass  # no more for now
        if self._aside:
            self._crank.post(self.listen)

    def _take_in_block(self, message: bytes, fds: list[int]) -> None:
        number = channel.BLOCK_HEAD.unpack(message)[1]
        try:
            self.blocks[number] = blocks.map_received(fds)
        except OSError as error:
            self.blocks[number] = error
