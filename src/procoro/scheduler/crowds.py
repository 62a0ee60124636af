"""Workers that run many calls at once: what each call has for time, how it is ended, and who is to blame for a death.

Such a worker begins its calls in the order in which they were sent, and ends them in any. It can be asked to end one
of them (`EndCall`); only if it does not is it ended itself, with all that it runs. Then the call that was asked is
known to be the cause, and the others are its victims. If it is lost otherwise, each call that ran may be the cause.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from procoro.calls import Fault, FaultKind, Run
from procoro.scheduler.backlog import Lane
from procoro.scheduler.batching import Batching
from procoro.scheduler.fleet import Crowd, Fleet, Worker
from procoro.scheduler.messages import Begun, Effect, EndCall
from procoro.scheduler.streams import Stream, Streams

GRACE = 1.0  # seconds that a call is given to end when it was asked to
LOADING = 10.0  # seconds granted to load a function, before the first call's timeout counts
MOST_SPANS = 16_000  # that a worker may hold

TIMED_OUT, OVERDUE, UNLOADED = range(3)  # what may have become of calls when their time has come


class Crowds:
    """The books of calls that run beside each other. `places`: how many of them a worker runs.

    `obeyed`: can a worker end one of its calls? Threads cannot be ended.
    """

    def __init__(
        self,
        places: int,
        obeyed: bool,
        fleet: Fleet,
        batching: Batching,
        streams: Streams,
        take_back: Callable[[Worker], None],
        do: Callable[[Effect], None],
    ) -> None:
        self.places = places
        self.obeyed = obeyed
        self.fleet = fleet
        self.batching = batching
        self.streams = streams
        self._take_back = take_back
        self._do = do
        self._due: list[tuple[float, int, int, int, int, int, int]] = []  # when, tie, worker, span, calls, what
        self._tie = 0

    # ------------------------------------------------------------------------------------------ sending

    def choose(self, lane: Lane) -> tuple[Worker, int] | None:
        """The worker for the calls at the head of a lane, and how many it may be given; all workers alike."""
        head = lane.pieces[0]
        stream = self.streams.of(head)
        ahead = self.batching.ahead(stream.opened.function, self.places)
        apart = head.first in stream.apart
        best, most, held, open_workers = None, 0, 0, 0
        for worker in self.fleet.workers.values():
            room = self._room(worker, ahead, apart)
            if room > 0:
                open_workers += 1
                held += worker.held
                if room > most:
                    best, most = worker, room
        if best is None:
            return None
        level = -(-(held + lane.waiting) // open_workers)
        size = max(1, min(most, level - best.held, self.batching.crowd(stream.opened.function, head.weight)))
        if stream.opened.chunk is not None:
            size = min(size, stream.opened.chunk)
        return best, 1 if apart else size

    def wants_to_be_apart(self, lane: Lane) -> bool:
        """Is the call at the head of a lane to be alone in its worker? Then one of them is to become empty."""
        head = lane.pieces[0]
        if head.first not in self.streams.of(head).apart:
            return False
        workers = [worker for worker in self.fleet.workers.values() if self.fleet.is_open(worker)]
        if workers and not any(worker.apart for worker in workers):
            min(workers, key=lambda worker: worker.held).apart = True
        return True

    def _room(self, worker: Worker, ahead: int, apart: bool) -> int:
        if not self.fleet.is_open(worker) or len(worker.spans) >= MOST_SPANS:
            return 0
        if worker.spans and (apart or worker.apart or not worker.many):
            return 0
        room = min(self.places + ahead - worker.held, self.fleet.capacity(worker))
        if worker.held >= self.places and room < ahead // 2:  # nobody waits for it: no crumbs
            return 0
        return room

    def sent(self, worker: Worker, crowd: Crowd, stream: Stream, now: float) -> None:
        """These calls are with the worker now."""
        worker.many = True
        worker.apart = crowd.piece.first in stream.apart
        worker.held += crowd.piece.count
        worker.waiting += crowd.piece.count
        if stream.opened.timeout is not None:
            self._expect(now + stream.opened.timeout + LOADING, worker, crowd, 0, 1, UNLOADED)

    def unsent(self, worker: Worker, crowd: Crowd, start: int) -> None:
        """The calls of a crowd from `start` on were not begun after all."""
        worker.held -= crowd.limit - start
        worker.waiting -= crowd.limit - max(start, crowd.begun)
        crowd.begun = min(start, crowd.begun)

    # -------------------------------------------------------------------------------- what workers tell

    def on_begun(self, worker: Worker, event: Begun, now: float) -> None:
        """So many calls have begun."""
        for crowd in worker.crowds():
            if crowd.number > event.span:
                continue
            crowd.loaded = True
            begun = crowd.limit if crowd.number < event.span else min(event.calls, crowd.limit)
            if begun <= crowd.begun:
                if crowd.number < event.span:
                    return  # and so had all before it
                continue
            timeout = self.streams.of(crowd.piece).opened.timeout
            if timeout is not None:
                self._expect(now + timeout, worker, crowd, crowd.begun, begun, TIMED_OUT)
            worker.waiting -= begun - crowd.begun
            crowd.begun = begun
            worker.since = now
            worker.stuck = False

    def on_recorded(self, worker: Worker, crowd: Crowd, run: Run) -> Run | Fault:
        """Calls have ended: the outcome that counts."""
        at = run.first - crowd.piece.first
        crowd.note(at, run.count)
        worker.held -= run.count
        why = None
        if worker.asked:
            for index in range(at, at + run.count):
                why = worker.asked.pop((crowd.number, index), None)
        if not run.cut:
            return run
        return self._fault(crowd, at, why or FaultKind.KILLED, None)

    # --------------------------------------------------------------------------------------- ending calls

    def end_call(self, worker: Worker, crowd: Crowd, at: int, why: str, now: float) -> None:
        """End a call that runs: if it can be, it alone."""
        if (crowd.number, at) in worker.asked:
            return
        worker.asked[crowd.number, at] = why
        if self.obeyed:
            self._do(EndCall(worker.number, crowd.number, at))
            self._expect(now + GRACE, worker, crowd, at, at + 1, OVERDUE)
        else:
            self.condemn(worker, why)

    def condemn(self, worker: Worker, why: str) -> None:
        """End a worker: but first take back what waits in it, which is to live."""
        if worker.doom is None and worker.condemned is None:
            worker.condemned = why
            self._take_back(worker)

    def sentence(self, worker: Worker) -> str | None:
        """What waited in it has been taken back: why it is to be killed, if that still holds."""
        why, worker.condemned = worker.condemned, None
        if why is None or (why != FaultKind.MEMORY and not worker.asked):
            return None  # the calls that it was to be ended for, have ended
        return why if worker.held else None

    # ---------------------------------------------------------------------------------------------- time

    def _expect(self, when: float, worker: Worker, crowd: Crowd, first: int, last: int, what: int) -> None:
        self._tie += 1
        heapq.heappush(self._due, (when, self._tie, worker.number, crowd.number, first, last, what))

    def next_due(self) -> float | None:
        """When the time of a call is next up."""
        while self._due:
            when, _, number, span, first, last, _ = self._due[0]
            worker = self.fleet.workers.get(number)
            crowd = None if worker is None else worker.spans.get(span)
            if isinstance(crowd, Crowd) and last > crowd.recorded and first < crowd.limit:
                return when
            heapq.heappop(self._due)
        return None

    def on_time(self, now: float) -> None:
        """End the calls whose time is up."""
        while self._due and self._due[0][0] <= now:
            _, _, number, span, first, last, what = heapq.heappop(self._due)
            worker = self.fleet.workers.get(number)
            crowd = None if worker is None else worker.spans.get(span)
            if worker is None or not isinstance(crowd, Crowd) or worker.doom is not None:
                continue
            if what == UNLOADED:
                if not crowd.loaded and crowd.limit:
                    worker.asked[span, 0] = FaultKind.TIMEOUT
                    self.condemn(worker, FaultKind.TIMEOUT)
                continue
            for at in range(first, last):
                if crowd.is_running(at):
                    if what == TIMED_OUT:
                        self.end_call(worker, crowd, at, FaultKind.TIMEOUT, now)
                    else:
                        self.condemn(worker, worker.asked.get((span, at), FaultKind.KILLED))

    # ------------------------------------------------------------------------------------------- deaths

    def blame(self, worker: Worker, begun: int, how: object) -> list[tuple[Crowd, int, Fault]]:
        """The calls that ended with a worker that is lost, each with its share of the blame."""
        guilty, others = [], []
        for crowd in worker.crowds():
            running = crowd.running()
            if crowd.number == begun and not crowd.loaded and crowd.limit > crowd.recorded:
                guilty.append((crowd, 0, self._fault(crowd, 0, worker.doom or FaultKind.DIED, how)))
                running = running[1:]
            for at in running:
                why = worker.asked.get((crowd.number, at))
                if why is None:
                    others.append((crowd, at))
                else:
                    guilty.append((crowd, at, self._fault(crowd, at, why, how)))
        if guilty and worker.doom != FaultKind.MEMORY:
            return guilty + [(crowd, at, self._fault(crowd, at, FaultKind.COLLATERAL, how)) for crowd, at in others]
        for crowd, at in others:
            fault = self._fault(crowd, at, worker.doom or FaultKind.DIED, how)
            fault.among = len(others)
            guilty.append((crowd, at, fault))
        return guilty

    def _fault(self, crowd: Crowd, at: int, kind: str, how: object) -> Fault:
        piece = crowd.piece
        number = piece.first + at
        fault = Fault(number, kind, how, self.streams.of(piece).attempt(number))
        fault.item = piece.items[piece.offset + at]
        return fault
