"""What must be true of the scheduler's own books after every event, beside what really happened."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, cast

from procoro.scheduler.backlog import Lane
from procoro.scheduler.fleet import Worker
from procoro.scheduler.spans import Crowd
from procoro.scheduler.streams import HEAVY, Window
from tests.simulation.crowd import NEVER

if TYPE_CHECKING:
    from procoro.scheduler import Scheduler
    from tests.simulation import workers
    from tests.simulation.world import World

STILL = 0.1  # seconds that a call may wait in a worker that cannot begin it


def check_books(world: World) -> None:
    """Nothing is lost, nothing is counted twice, and nobody is idle beside work that waits."""
    scheduler = world.scheduler
    backlog, fleet, streams = scheduler.backlog, scheduler.fleet, scheduler.streams
    waiting = 0
    for lane in backlog.lanes.values():
        assert lane.waiting == sum(piece.count for piece in lane.pieces), f"lane {lane.number} miscounts"
        waiting += lane.waiting
    sent = 0
    for worker in fleet.workers.values():
        assert worker.calls >= 0
        assert worker.spans or not worker.stuck or worker.killed_for, f"worker {worker.number} is stuck in nothing"
        held = waiting_here = 0
        for span in worker.spans.values():
            assert 0 <= span.recorded <= span.limit <= span.piece.count
            assert span.many == worker.many, f"worker {worker.number} runs calls in two ways at once"
            ended = span.recorded
            if span.many:
                crowd = cast(Crowd, span)  # that of a mutant is another class
                assert all(span.recorded < at < span.limit for at in crowd.ahead), f"{crowd.ahead} of {span.piece}"
                ended += len(crowd.ahead)
                held += span.limit - ended
                waiting_here += span.limit - crowd.begun
            sent += span.limit - ended
        if scheduler.over is None:
            assert worker.held == held, f"worker {worker.number} holds {held} calls, not {worker.held}"
            wait = f"{waiting_here} calls wait in worker {worker.number}, not {worker.waiting}"
            assert worker.waiting == waiting_here, wait
    open_calls = backing_off = 0
    items: Counter[Window] = Counter()
    nbytes = 0.0
    for number, stream in streams.by_number.items():
        source = world.truth.sources[number]
        held = sum(outcome.count for outcome in stream.held.values())
        assert stream.open_calls == stream.supplied - source.delivered - held, f"stream {number} miscounts"
        assert stream.items >= 0
        open_calls += stream.open_calls
        backing_off += stream.backing_off
        if stream.window is not None:
            items[stream.window] += stream.items
            nbytes += stream.nbytes
    assert open_calls == waiting + backing_off + sent, (
        f"{open_calls} calls are open: {waiting} wait, {backing_off} rest, {sent} are sent"
    )
    assert all(items[window] == window.items for window in (streams.generators, streams.sequences))
    assert abs(nbytes - streams.nbytes) < 1e-3
    assert streams.running == sum(not stream.ended for stream in streams.by_number.values())
    if not world.told:
        assert fleet.workers.keys() == world.workers.keys()
        _check_progress(world)


def _check_progress(world: World) -> None:
    scheduler = world.scheduler
    if scheduler.short and any(worker.spans for worker in scheduler.fleet.workers.values()):
        return
    full = [lane for lane in scheduler.backlog.waiting.values() if is_full(world, lane)]
    lane = scheduler.backlog.next_lane(full)
    if lane is not None:
        idle = [worker.number for worker in scheduler.fleet.workers.values() if is_idle(worker)]
        assert not idle, f"workers {idle} have nothing to do, and calls wait"
        head = scheduler.streams.of(lane.pieces[0])
        if head.opened.many and lane.pieces[0].first not in head.apart:
            free = [worker.number for worker in scheduler.fleet.workers.values() if _has_a_place(world, worker)]
            assert not free, f"workers {free} have places, and calls wait"
    _check_reserved(scheduler, lane)
    for source in world.truth.sources.values():
        stream = scheduler.streams.by_number.get(source.number)
        supplied = source.opened.items is not None
        if stream is None or supplied or stream.open_calls or (source.bounded and source.in_flight):
            continue
        assert source.asked or source.stopped or source.exhausted, f"stream {source.number} is not pulled"


def _check_reserved(scheduler: Scheduler, first: Lane | None) -> None:
    """A worker is kept for a call that is to be alone, if there is one whose turn it is."""
    fleet, lanes = scheduler.fleet, [lane for lane in scheduler.backlog.lanes.values() if lane.pieces]
    apart = [lane for lane in lanes if lane.pieces[0].first in scheduler.streams.of(lane.pieces[0]).apart]
    if first in apart:
        workers = [worker for worker in fleet.workers.values() if fleet.is_open(worker)]
        kept = any(worker.apart or worker is fleet.reserved for worker in workers)
        assert kept or not workers, "a call is to be alone, and no worker will be"
    assert apart or fleet.reserved is None, "a worker is kept for nobody"


def is_full(world: World, lane: Lane) -> bool:
    """Outcomes hold all memory, and this lane's consumer has some to take, or will have when its calls have ended."""
    streams, stream = world.scheduler.streams, world.scheduler.streams.of(lane.pieces[0])
    if stream.window is None or streams.nbytes <= HEAVY * streams.most_nbytes:
        return False
    source = world.truth.sources[stream.opened.stream]
    sent = stream.open_calls - lane.waiting - stream.backing_off
    return source.delivered > source.consumed or sent > 0


def is_idle(worker: Worker) -> bool:
    return worker.ready and not (worker.spans or worker.leaving or worker.dead or worker.being_taken_back)


def _has_a_place(world: World, worker: Worker) -> bool:
    scheduler = world.scheduler
    may_be_given = scheduler.fleet.is_open(worker) and scheduler.fleet.capacity(worker) > 0
    may_be_given = may_be_given and worker.many and not worker.apart and worker is not scheduler.fleet.reserved
    return may_be_given and worker.held < scheduler.crowds.places


def check_stuck(world: World, worker: workers.Worker) -> None:
    """A worker of which all is known gets calls again as soon as it can begin them."""
    known = world.scheduler.fleet.workers.get(worker.number)
    if known is not None and known.many and known.stuck and not world.told:
        assert worker.many.outbox or not worker.many.is_free, f"worker {worker.number} is not stuck"


def check_refused(world: World, worker: workers.Worker) -> None:
    """No call that a worker has refused counts as one that runs there, once it has said so: others may wait for it."""
    known, many = world.scheduler.fleet.workers.get(worker.number), worker.many
    if known is None or world.told or many.cuts:
        return
    for number, crowd in many.spans.items():
        if crowd.through and crowd not in many.outbox and (sent := known.spans.get(number)) is not None:
            assert sent.limit <= crowd.begun, f"a refused call runs in worker {worker.number}, as it is thought"


def check_waits(world: World) -> None:
    """Nothing waits for long in a worker that does not begin it, if it could be begun elsewhere."""
    for worker in world.workers.values():
        many = worker.many
        if many.loading is not None and many.loading.limit and worker.killed_for is None and not world.told:
            overdue = world.deaths.is_overdue(many.loading, world.now - STILL) and many.due() > world.now
            assert not overdue, f"worker {worker.number} loads for ever"
        if worker.killed_for is None and many.spans and _waits_in_vain(world, worker):
            many.vain_since = min(many.vain_since, world.now)
            waits = f"{len(many.may_begin())} calls wait in worker {worker.number}, which does not begin them"
            assert world.now - max(many.vain_since, many.moved_at) < STILL, waits
        else:
            many.vain_since = NEVER


def _waits_in_vain(world: World, worker: workers.Worker) -> bool:
    many = worker.many
    if len(many.may_begin()) <= (many.loading is not None) or many.outbox or many.due() <= world.now:
        return False
    if len(many.running) < many.places:
        return True
    others = world.scheduler.fleet.workers.values()
    return world.scheduler.backlog.next_lane() is None and any(_has_a_place(world, other) for other in others)
