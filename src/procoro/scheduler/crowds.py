"""Workers that run many calls at once: how much time each call has, how it is ended, and who is to blame for a death.

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
from procoro.scheduler.fleet import Fleet, Worker
from procoro.scheduler.messages import Begun, Effect, EndCall
from procoro.scheduler.spans import Crowd
from procoro.scheduler.streams import Stream, Streams

GRACE = 1.0  # seconds that a call is given to end when it was asked to
LOADING = 10.0  # seconds granted to load a function, before the first call's timeout counts
MOST_SPANS = 16_000  # that a worker may hold: fewer than ring.SPANS, see tests/test_limits.py

TIMED_OUT, OVERDUE, UNLOADED = range(3)  # what may have become of calls when their time has come


class Crowds:
    """The books of calls that run beside each other. `places`: how many of them a worker runs.

    `can_end_calls`: can a worker end one of its calls? Threads cannot be ended.
    """

    def __init__(
        self,
        places: int,
        can_end_calls: bool,
        fleet: Fleet,
        batching: Batching,
        streams: Streams,
        take_back: Callable[[Worker], None],
        do: Callable[[Effect], None],
    ) -> None:
        self.places = places
        self.can_end_calls = can_end_calls
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
        best, most, held = None, 0, []
        for worker in self.fleet.workers.values():
            room = self._room(worker, ahead, apart)
            if room > 0:
                held.append(worker.held)
                if best is None or worker.held < best.held:
                    best, most = worker, room
        if best is None:
            return None
        size = max(
            1,
            min(most, _level(held, lane.waiting) - best.held, self.batching.crowd(stream.opened.function, head.weight)),
        )
        return best, 1 if apart else size

    def wants_to_be_apart(self, lane: Lane) -> bool:
        """Is the call at the head of a lane to be alone in its worker? Then one is kept for it, to become empty."""
        head = lane.pieces[0]
        if head.first not in self.streams.of(head).apart:
            return False
        workers = [worker for worker in self.fleet.workers.values() if self.fleet.is_open(worker)]
        if workers and not any(worker.apart for worker in workers):
            self.fleet.reserved = min(workers, key=lambda worker: worker.held)
        return True

    def has_a_place(self) -> bool:
        """Is there a worker that would begin a call at once?"""
        return any(self._room(worker, 0, False) > 0 for worker in self.fleet.workers.values())

    def _room(self, worker: Worker, ahead: int, apart: bool) -> int:
        if not self.fleet.is_open(worker) or len(worker.spans) >= MOST_SPANS:
            return 0
        if worker.spans and (apart or worker.apart or worker is self.fleet.reserved or not worker.many):
            return 0
        room = min(self.places + ahead - worker.held, self.fleet.capacity(worker))
        if worker.held >= self.places and room < ahead // 2:  # nobody waits for it: no crumbs
            return 0
        return room

    def sent(self, worker: Worker, crowd: Crowd, stream: Stream, now: float) -> None:
        """These calls are with the worker now."""
        if not worker.waiting:
            worker.since = now
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
        for index in range(start, crowd.limit) if worker.asked else ():
            worker.asked.pop((crowd.number, index), None)

    # -------------------------------------------------------------------------------- what workers tell

    def on_begun(self, worker: Worker, event: Begun, now: float) -> None:
        """So many calls have begun; or none yet, and the function has been loaded."""
        worker.since = now
        worker.stuck = False  # it moves, even if that call was taken back meanwhile
        for crowd in worker.crowds():
            if crowd.number > event.span:
                continue
            if not crowd.loaded:
                crowd.loaded = True
                if worker.killed_for is None and worker.asked.get((crowd.number, 0)) == FaultKind.TIMEOUT:
                    del worker.asked[crowd.number, 0]  # just in time
            if event.calls:
                before = crowd.begun
                self._begin(worker, crowd, crowd.limit if crowd.number < event.span else event.calls, now)
                if before:
                    return  # then all spans before it have been seen to begin

    def _begin(self, worker: Worker, crowd: Crowd, begun: int, now: float) -> None:
        """So many calls of a crowd have begun."""
        begun = min(begun, crowd.limit)
        if begun > crowd.begun:
            timeout = self.streams.of(crowd.piece).opened.timeout
            if timeout is not None:
                self._expect(now + timeout, worker, crowd, crowd.begun, begun, TIMED_OUT)
            worker.waiting -= begun - crowd.begun
            crowd.begun = begun

    def on_recorded(self, worker: Worker, crowd: Crowd, run: Run, now: float) -> Run | Fault:
        """Calls have ended: the outcome that counts."""
        at = run.first - crowd.piece.first
        self._begin(worker, crowd, at + run.count, now)  # if they could not be sent, nobody has said so
        crowd.note(at, run.count)
        worker.held -= run.count
        why = None
        if worker.asked:
            for index in range(at, at + run.count):
                why = worker.asked.pop((crowd.number, index), None)
        if not run.cut:
            return run
        return self.streams.fault(crowd.piece, at, why or FaultKind.KILLED, None)

    # --------------------------------------------------------------------------------------- ending calls

    def end_call(self, worker: Worker, crowd: Crowd, at: int, why: str, now: float) -> None:
        """End a call that runs, or may be about to: if it can be, it alone."""
        if (crowd.number, at) in worker.asked:
            return
        worker.asked[crowd.number, at] = why
        if self.can_end_calls:
            self._do(EndCall(worker.number, crowd.number, at))
        elif crowd.is_running(at):
            self.want_kill(worker, why, (crowd.number, at))
            return
        self._expect(now + GRACE, worker, crowd, at, at + 1, OVERDUE)

    def want_kill(self, worker: Worker, why: str, call: tuple[int, int] | None = None) -> None:
        """End a worker, for this call or for all: but first take back what waits in it, which is to live."""
        if worker.killed_for is None:
            worker.kill_wanted.append((call, why))
            self._take_back(worker)

    def kill_reason(self, worker: Worker) -> str | None:
        """What waited in it has been taken back: why it is to be killed, if that still holds."""
        wanted, worker.kill_wanted = worker.kill_wanted, []
        for call, why in wanted:
            if worker.held and (call is None or call in worker.asked):  # else that call has ended
                return why
        return None

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
            if worker is None or not isinstance(crowd, Crowd) or worker.dead or worker.killed_for is not None:
                continue
            if what == UNLOADED:
                if not crowd.loaded and crowd.limit:
                    worker.asked[span, 0] = FaultKind.TIMEOUT
                    self.want_kill(worker, FaultKind.TIMEOUT, (span, 0))
                continue
            for at in range(first, last):
                if what == OVERDUE and (why := worker.asked.get((span, at))) is not None:
                    self.want_kill(worker, why, (span, at))
                elif what == TIMED_OUT and crowd.is_running(at):
                    self.end_call(worker, crowd, at, FaultKind.TIMEOUT, now)

    # ------------------------------------------------------------------------------------------- deaths

    def blame(self, worker: Worker, begun: int, how: object) -> list[tuple[Crowd, int, Fault]]:
        """The calls that ended with a worker that is lost, each with its share of the blame.

        If it was ended for some of them, the others are its victims. Else each of them may have been its end, and so
        may the loading of a function, for which the first call of its span stands.
        """
        for_one = worker.killed_for in (FaultKind.TIMEOUT, FaultKind.KILLED)
        ended = []
        for crowd in worker.crowds():
            loading = crowd.number == begun and not crowd.loaded and crowd.limit > 0
            if loading and (not for_one or (crowd.number, 0) in worker.asked):
                ended.append((crowd, 0))
            ended += [(crowd, at) for at in crowd.running()]
        faults = []
        for crowd, at in ended:
            kind = worker.asked.get((crowd.number, at))
            if kind is None:
                kind = FaultKind.COLLATERAL if for_one else worker.killed_for or FaultKind.DIED
            fault = self.streams.fault(crowd.piece, at, kind, how)
            if kind in (FaultKind.DIED, FaultKind.MEMORY):
                fault.among = len(ended)
            faults.append((crowd, at, fault))
        return faults


def _level(held: list[int], waiting: int) -> int:
    """How many each worker would hold if what waits were poured over them: those that hold more, get none."""
    total, count = waiting, 0
    for one in sorted(held):
        if count and total // count <= one:
            break
        total += one
        count += 1
    return total // count
