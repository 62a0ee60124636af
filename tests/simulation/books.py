"""What must be true of the scheduler's own books after every event, beside what really happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procoro.scheduler.fleet import Worker

if TYPE_CHECKING:
    from tests.simulation.world import World


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
        assert worker.spans or not worker.stuck or worker.doom, f"worker {worker.number} is stuck in nothing"
        for span in worker.spans.values():
            assert 0 <= span.recorded <= span.limit <= span.piece.count
            sent += span.limit - span.recorded
    open_calls = resting = items = 0
    nbytes = 0.0
    for number, stream in streams.by_number.items():
        source = world.truth.sources[number]
        held = sum(outcome.count for outcome in stream.held.values())
        assert stream.open_calls == stream.supplied - source.delivered - held, f"stream {number} miscounts"
        assert stream.items >= 0
        open_calls += stream.open_calls
        resting += stream.resting
        if stream.window:
            items += stream.items
            nbytes += stream.nbytes
    assert open_calls == waiting + resting + sent, (
        f"{open_calls} calls are open: {waiting} wait, {resting} rest, {sent} are sent"
    )
    assert items == streams.items
    assert abs(nbytes - streams.nbytes) < 1e-3
    assert streams.running == sum(not stream.ended for stream in streams.by_number.values())
    if not world.told:
        assert fleet.workers.keys() == world.workers.keys()
        _check_progress(world)


def _check_progress(world: World) -> None:
    scheduler = world.scheduler
    if scheduler.short and any(worker.spans for worker in scheduler.fleet.workers.values()):
        return
    if scheduler.backlog.next_lane() is not None:
        idle = [worker.number for worker in scheduler.fleet.workers.values() if _is_idle(worker)]
        assert not idle, f"workers {idle} have nothing to do, and calls wait"
    for source in world.truth.sources.values():
        stream = scheduler.streams.by_number.get(source.number)
        if stream is None or not source.opened.pulled or stream.open_calls or (source.bounded and source.in_flight):
            continue
        assert source.asked or source.stopped or source.exhausted, f"stream {source.number} is not pulled"


def _is_idle(worker: Worker) -> bool:
    return worker.ready and not worker.spans and not worker.retiring and worker.doom is None
