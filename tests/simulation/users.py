"""The users of a simulated pool, and the accidents: streams, cancellations, kill -9, memory, the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procoro.scheduler import messages as m
from tests.simulation.truth import Source
from tests.simulation.workers import Habits

if TYPE_CHECKING:
    from tests.simulation.world import World


class Users:
    """Everybody who does something to a pool, at moments that the world's seed chooses."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self.truth = world.truth

    def open_stream(self) -> None:
        if self.world.closing:
            return
        rng = self.rng
        kind = rng.choice(("submit", "submit", "map", "imap", "imap_unordered"))
        stream = len(self.truth.sources) + 1
        timeout = rng.choice((None, None, 0.001, 0.03, 2.0))
        count = rng.choice((0, 1, 3, 10, 10, 10, 30, 60, 60, 300)) if kind != "submit" else rng.choice((1, 1, 5, 30))
        many = rng.random() < self.world.many
        opened = m.Opened(
            stream,
            0 if kind == "submit" else stream,
            rng.choice(("f", "g", "h", f"function {stream}")),
            window=kind.startswith("imap"),
            ordered=kind == "imap",
            total=count if kind == "map" or (kind != "submit" and rng.random() < 0.3) else None,
            timeout=timeout,
            retries=rng.choice((0, 0, 0, 1, 3)),
            chunk=rng.choice((None, None, None, 1, 7)) if kind != "submit" else None,
            many=many,
        )
        source = self.truth.sources[stream] = Source(opened, count, rng.choice((1, 10, 300)))
        self.world.habits[stream] = Habits(rng, timeout, self.world.cruel, many)
        if kind == "submit":
            opened.items, opened.nbytes = self.world.take_inputs(source, count)
            source.exhausted = True
        self.world.tell(opened)
        source.pauses = rng.choice(((0.0,), (0.0001,), (0.0005, 0.05), (0.2,), (0.001, 1.0)))

    def meddle(self) -> None:
        """Somebody does something, or something happens to somebody."""
        if self.truth.ended:
            return
        disturbances = (self._cancel, self._cancel, self._cancel, self._drop, self._shoot, self._hog, self._short)
        self.rng.choice(disturbances)()
        if self.rng.random() < 0.3:
            self.world.at(0.01 * self.rng.random(), self.meddle)

    def _cancel(self) -> None:
        if not self.world.recent:
            return
        sent = [call for worker in self.world.workers.values() for call in worker.holds()]
        stream, number = self.rng.choice(sent if sent and self.rng.random() < 0.7 else self.world.recent)
        self.world.next_ticket += 1
        kill = self.rng.random() < 0.5
        self.truth.tickets[self.world.next_ticket] = (stream, number, kill)
        if sent and self.world.cruel and self.rng.random() < 0.1:
            self._cancel_as_it_dies(m.CancelAsked(self.world.next_ticket, stream, number, kill))
        else:
            self.world.tell(m.CancelAsked(self.world.next_ticket, stream, number, kill))

    def _cancel_as_it_dies(self, event: m.CancelAsked) -> None:
        """The request and the death of the worker that has the call are told in one turn."""
        self.world.turn_lasts = True
        self.world.tell(event)
        for worker in list(self.world.workers.values()):
            call = event.stream, event.number
            if call in worker.may_begin() or worker.may_be_in(call):
                worker.advance(self.world.now)
                worker.dies_at = min(worker.dies_at, self.world.now)
                self.world.bury(worker)

    def _drop(self) -> None:
        pulled = [source for source in self.truth.sources.values() if source.opened.items is None]
        if not pulled:
            return
        source = self.rng.choice(pulled)
        if source.bounded and self.rng.random() < 0.5:
            self._detach(source)
        else:
            drop = self.rng.random() < 0.5
            source.dropped = source.dropped or drop
            source.left_early = True
            self.world.tell(m.DrainAsked(source.number, drop))

    def _detach(self, source: Source) -> None:
        source.detached = True
        source.take(len(source.untaken))
        self.world.tell(m.Detached(source.number))

    def _shoot(self) -> None:
        """kill -9, from outside."""
        if self.world.workers and self.world.cruel:
            worker = self.rng.choice(list(self.world.workers.values()))
            if worker.ready_at <= self.world.now < worker.dies_at:
                worker.advance(self.world.now)
                worker.dies_at = min(worker.dies_at, self.world.now + 0.001 * self.rng.random())
                self.world.expect_death(worker)

    def _hog(self) -> None:
        if self.world.workers:
            worker = self.rng.choice(list(self.world.workers.values()))
            self.world.tell(m.MemorySeen(worker.number, self.rng.choice((900, 1100))))

    def _short(self) -> None:
        self.world.tell(m.MemoryShort(not self.world.scheduler.short))

    def finish(self) -> None:
        self.world.closing = True
        if self.rng.random() < 0.3:
            self.terminate()
            return
        cancel = self.rng.random() < 0.3
        for source in self.truth.sources.values() if cancel else ():
            source.dropped = True
        self.world.tell(m.CloseAsked(cancel))
        if cancel and not self.world.told:
            waiting = [lane.pieces for lane in self.world.scheduler.backlog.lanes.values() if lane.pieces]
            assert not waiting, f"{waiting} still wait, and were to be cancelled"
        if self.rng.random() < 0.3:
            self._wait_for_the_end()
        if self.rng.random() < 0.2:
            self.world.at(self.rng.random(), self.terminate)

    def _wait_for_the_end(self) -> None:
        """Join: whoever waits may be the one who would have consumed."""
        late = []
        for source in self.truth.sources.values():
            if source.bounded:
                late.append((source.number, *source.take(len(source.untaken))))
                source.detached = True
        self.world.tell(m.Unbounded())
        for stream, count, nbytes in late:
            if count and self.rng.random() < 0.5:
                self.world.tell(m.Consumed(stream, count, nbytes))

    def terminate(self) -> None:
        if not self.truth.ended:
            self.world.tell(m.TerminateAsked())
