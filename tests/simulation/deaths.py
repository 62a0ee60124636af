"""Which calls may be charged with the end of a worker that ran many, and which worker may be ended for one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procoro.calls import FaultKind
from procoro.scheduler.crowds import GRACE, LOADING
from tests.simulation.crowd import Asked, Crowd, Running

if TYPE_CHECKING:
    from tests.simulation.workers import Worker
    from tests.simulation.world import World

EARLY = 1e-3  # seconds that do not count
ONE = range(1, 2)
OF_ONE = {FaultKind.TIMEOUT, FaultKind.KILLED, FaultKind.COLLATERAL}  # ends that are a matter of no other call
ENDED = {FaultKind.TIMEOUT, FaultKind.KILLED}  # what workers are ended for, because of one call


class Deaths:
    """What is so of calls that run beside each other, when one is to end or all have ended."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.truth = world.truth

    def ask(self, worker: Worker, span: int, at: int) -> None:
        """One call is asked to end: there must be a reason, and it is asked once."""
        many = worker.many
        assert self.world.can_end_calls, "calls that cannot be ended are asked to end"
        assert (span, at) not in many.asked, f"call {at} of span {span} is asked to end twice"
        crowd = many.spans[span]
        kinds = self._reasons(many.running.get((span, at)), crowd, at)
        assert kinds, f"call {crowd.stream}/{crowd.first + at} is asked to end, for nothing"
        many.asked[span, at] = Asked(self.world.now, kinds)

    def _reasons(self, call: Running | None, crowd: Crowd, at: int) -> set[str]:
        """Why a call may be ended now. One that may have begun (see `in_limbo`) has no clock."""
        name, kinds = (crowd.stream, crowd.first + at), set()
        timeout = self.truth.sources[crowd.stream].opened.timeout
        if timeout is not None and (call is None or self.world.now - call.began >= timeout - EARLY):
            kinds.add(FaultKind.TIMEOUT)
        if self.truth.find(*name).unwanted or (*name, True) in self.truth.tickets.values():
            kinds.add(FaultKind.KILLED)
        return kinds

    def is_overdue(self, crowd: Crowd, when: float) -> bool:
        """Has its function taken too long to load?"""
        timeout = self.truth.sources[crowd.stream].opened.timeout
        return timeout is not None and when >= crowd.sent_at + timeout + LOADING - EARLY

    def check_kill(self, worker: Worker) -> None:
        """It hits no call that has not begun, and there is one that deserves it and did not obey."""
        many, now = worker.many, self.world.now
        may_begin = many.may_begin()
        assert len(may_begin) <= 1, f"worker {worker.number} is killed ({worker.killed_for}) with {may_begin} before it"
        if worker.killed_for == FaultKind.MEMORY:
            assert self.world.memory_limit is not None
            return
        if not many.running and not many.unread and not may_begin:
            return  # it had nothing to do, and did not say so
        assert worker.killed_for in ENDED
        if self.world.can_end_calls:
            deserved = any(now >= asked.since + GRACE - EARLY for asked in many.asked.values())
        else:
            deserved = any(self._reasons(call, call.crowd, call.at) for call in many.running.values())
            deserved |= any(self._reasons(None, crowd, at) for crowd, at, _, _ in many.unread)
            limbo = [(crowd, at) for crowd in many.spans.values() for at in crowd.limbo(worker)]
            deserved |= any(self._reasons(None, crowd, at) for crowd, at in limbo)
        deserved |= any(self.is_overdue(crowd, now) for crowd in many.spans.values() if not crowd.open)
        assert deserved, f"worker {worker.number} is killed ({worker.killed_for}) for nothing"

    def charges(self, worker: Worker) -> list[tuple[int, int, str, range]]:
        """What the calls of a dead worker may end as. Those in limbo may be taken for running ones."""
        many, killed_for = worker.many, worker.killed_for
        running = [(call.crowd, call.at, call) for call in many.running.values()]
        limbo = [(crowd, at, None) for crowd in many.spans.values() for at in crowd.limbo(worker)]
        loading = sum(crowd is many.loading for crowd, _, _ in limbo)
        among = range(len(running) + loading, len(running) + len(limbo) + 1)
        charged: list[tuple[int, int, str, range]] = []
        for crowd, at, call in running + limbo:
            stream, number = crowd.stream, crowd.first + at
            kinds = self._kinds(worker, crowd, at, call)
            charged += [(stream, number, kind, ONE if kind in OF_ONE else among) for kind in kinds]
            self.truth.find(stream, number).narrow += call is None
        if killed_for is None:
            for stream in {crowd.stream for crowd, _, _ in running + limbo}:
                self.truth.deaths[stream] += 1
        return charged

    def _kinds(self, worker: Worker, crowd: Crowd, at: int, call: Running | None) -> set[str]:
        asked = worker.many.asked.get((crowd.number, at))
        if asked is not None:
            return asked.kinds
        if worker.killed_for not in ENDED:
            return {worker.killed_for or FaultKind.DIED}
        kinds = {FaultKind.COLLATERAL}
        if not self.world.can_end_calls:
            kinds |= self._reasons(call, crowd, at)
        loaded_late = call is None or call.began > worker.doomed_at - EARLY
        if at == 0 and loaded_late and self.is_overdue(crowd, worker.doomed_at):
            kinds.add(FaultKind.TIMEOUT)
        return kinds
