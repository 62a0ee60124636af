"""What really happens to the calls of a simulated pool, and the promises that the scheduler is held to.

The scheduler only knows what it has been told. Here stands what is so: which call has begun, which is running,
how each one went. Every method is one promise or more, and fails at the moment when it is broken.
"""

from __future__ import annotations

from collections import Counter, deque

from procoro.calls import Fault, FaultKind, Run
from procoro.scheduler.crowds import GRACE, LOADING
from procoro.scheduler.messages import Opened
from procoro.scheduler.scheduler import DEADLY
from procoro.scheduler.streams import BACK_OFF, LONGEST_BACK_OFF

OF_WORKERS = {FaultKind.DIED, FaultKind.TIMEOUT, FaultKind.MEMORY, FaultKind.KILLED, FaultKind.COLLATERAL}
OF_POOLS = {FaultKind.TERMINATED, FaultKind.GAVE_UP}
SLACK = 0.3  # seconds that a time-out may come late: records are read late, and a kill takes a moment


class Call:
    """One call: how often it has really begun, and how it went the last time."""

    __slots__ = ("attempts", "began", "ended_at", "fate", "limbo", "narrow", "ok", "running", "unwanted", "unwanted_at")

    def __init__(self) -> None:
        self.attempts = 0  # really begun
        self.narrow = 0  # deaths when it was about to begin: it may have been blamed for them
        self.running = False
        self.began = 0.0
        self.ended_at = 0.0
        self.ok: bool | None = None  # the last outcome that was recorded; False: its worker died
        self.fate: str | None = None  # as delivered: "ok", "failed" or a FaultKind
        self.unwanted = False  # a cancel or kill was answered by yes
        self.unwanted_at = float("inf")  # when, of one that was running
        self.limbo = 0  # the worker in which it may have begun, or not, when a kill was answered by yes


class Source:
    """One stream: its inputs, its calls, and the consumer of its outcomes."""

    def __init__(self, opened: Opened, left: int, weight: int) -> None:
        self.opened = opened
        self.number = opened.stream
        self.left = left  # inputs that have not been pulled
        self.weight = weight  # bytes of one input
        self.calls: list[Call] = []
        self.asked: tuple[int, int] | None = None  # a Pull that is not answered
        self.stopped = False  # StopPulling was asked for
        self.exhausted = False
        self.ended = False
        self.dropped = False  # calls that have not begun may be cancelled
        self.left_early = False  # by the consumer
        self.why: Fault | None = None  # it was stopped
        self.detached = False  # or unbounded
        self.delivered = 0
        self.consumed = 0
        self.untaken: deque[tuple[int, int]] = deque()  # outcomes delivered: (calls, bytes)
        self.pauses: tuple[float, ...] = (0.0,)  # of the consumer, seconds
        self.expected = False  # it is on its way
        self.nbytes = 0  # inputs without outcome, outcomes that the consumer has not taken

    def take(self, outcomes: int) -> tuple[int, int]:
        """The consumer takes so many outcomes: calls and bytes."""
        taken = [self.untaken.popleft() for _ in range(outcomes)]
        count, nbytes = sum(some[0] for some in taken), sum(some[1] for some in taken)
        self.consumed += count
        self.nbytes -= nbytes
        return count, nbytes

    @property
    def bounded(self) -> bool:
        return self.opened.window and not self.detached

    @property
    def in_flight(self) -> int:
        return len(self.calls) - self.consumed


class Truth:
    """All calls of a world."""

    def __init__(self, most_calls: int | None) -> None:
        self.most_calls = most_calls
        self.sources: dict[int, Source] = {}
        self.over: set[str] = set()  # the FaultKinds of the pool's end
        self.ended = False
        self.deaths: Counter[int] = Counter()  # of workers, in calls of a stream
        self.guilty: dict[tuple[int, int, str], range] = {}  # calls that were ended, as what, and among how many
        self.suspects: set[tuple[int, int]] = set()  # calls that may have been the end of a worker, with others
        self.tickets: dict[int, tuple[int, int, bool]] = {}  # not answered
        self.begun: Counter[int] = Counter()  # by worker

    def find(self, stream: int, number: int) -> Call:
        return self.sources[stream].calls[number]

    # ---- what workers do

    def begin(self, worker: int, doomed: bool, stream: int, number: int, now: float) -> None:
        """At most once started, unless retries allow more; never twice at a time; not before its back-off."""
        call, opened = self.find(stream, number), self.sources[stream].opened
        name = f"call {stream}/{number}"
        assert not call.running, f"{name} runs twice at a time"
        assert call.fate is None or self.over, f"{name} begins after it ended ({call.fate})"
        assert doomed or not call.unwanted or call.limbo == worker, f"{name} begins, and was to be killed"
        assert call.attempts <= opened.retries, f"{name} begins for the {call.attempts + 1}th time"
        if call.attempts:
            assert call.ok is False, f"{name} begins again, and has not failed"
            wait = min(BACK_OFF * 2 ** (call.attempts - 1), LONGEST_BACK_OFF)
            assert now >= call.ended_at + wait - 1e-9, f"{name} is retried too early: {now} {call.ended_at} {wait}"
        self.begun[worker] += 1
        assert self.most_calls is None or self.begun[worker] <= self.most_calls, f"worker {worker} is not recycled"
        call.attempts += 1
        call.running, call.began, call.ok = True, now, None
        call.unwanted_at = min(now, call.unwanted_at) if call.unwanted else call.unwanted_at

    def end(self, stream: int, number: int, ok: bool, now: float) -> None:
        """A call has recorded its outcome, or its worker died in it."""
        call, timeout = self.find(stream, number), self.sources[stream].opened.timeout
        call.running, call.ok, call.ended_at = False, ok, now
        if timeout is not None and not self.over:
            most = timeout + (GRACE if self.sources[stream].opened.many else LOADING) + SLACK
            assert now - call.began < most, f"call {stream}/{number} has outlived its time-out"
        if not self.over:
            assert now - call.unwanted_at < GRACE + SLACK, f"call {stream}/{number} was to be killed, and lives on"

    def cut(self, stream: int, number: int, kinds: set[str]) -> None:
        """A call has ended because it was asked to."""
        for kind in kinds:
            self.guilty[stream, number, kind] = range(1, 2)

    def charge(self, stream: int, number: int, kind: str, among: range) -> None:
        """A worker was lost, and this call may be charged with that, as one among so many."""
        self.guilty[stream, number, kind] = among
        if among.start > 1 and kind in (FaultKind.DIED, FaultKind.MEMORY):
            self.suspects.add((stream, number))

    # ---- what the scheduler says of them

    def deliver(self, stream: int, outcome: Run | Fault) -> None:
        """Exactly once, in order, and true."""
        source = self.sources[stream]
        assert not source.ended, f"stream {stream} has ended, and {outcome} comes"
        if source.opened.ordered:
            assert outcome.first == source.delivered, f"{outcome} comes as {source.delivered}th"
        for number in range(outcome.first, outcome.first + outcome.count):
            call = source.calls[number]
            assert call.fate is None, f"call {stream}/{number} ends twice: {call.fate}, {outcome}"
            if isinstance(outcome, Fault):
                call.fate = outcome.kind
                self._check_fault(source, number, outcome)
            else:
                call.fate = "ok" if outcome.ok else "failed"
                assert call.ok is outcome.ok and not call.running, f"{outcome} of stream {stream} is not true"
                assert (stream, number) in outcome.packed, f"{outcome} of stream {stream} has another's value"
            most = call.attempts + call.narrow + (isinstance(outcome, Fault) and not call.running)
            assert call.attempts <= outcome.attempt <= most, f"{outcome}: attempt {outcome.attempt} of {call.attempts}"
        source.delivered += outcome.count
        source.nbytes += outcome.nbytes - source.weight * outcome.count
        if source.bounded:
            source.untaken.append((outcome.count, outcome.nbytes))
        else:
            source.consumed += outcome.count
            source.nbytes -= outcome.nbytes

    def _check_fault(self, source: Source, number: int, fault: Fault) -> None:
        call, kind = source.calls[number], fault.kind
        if kind in OF_WORKERS:
            among = self.guilty.get((source.number, number, kind), range(0))
            guilty = fault.among in among
            waited = kind == FaultKind.KILLED and call.unwanted and not call.running
            assert guilty or waited, f"{fault} of {source.number} among {fault.among}, not {among}: not guilty"
        elif kind == FaultKind.CANCELLED:
            asked = any(ticket[:2] == (source.number, number) for ticket in self.tickets.values())
            assert asked or call.unwanted or source.dropped, f"{fault} of {source.number}: nobody cancelled it"
            assert not call.running, f"{fault} of {source.number} is running"
        elif kind == FaultKind.TERMINATED:
            assert kind in self.over, f"{fault} of {source.number}: the pool goes on"
        else:
            crash_loop = self.deaths[source.number] >= DEADLY
            assert kind in self.over or (crash_loop and not call.running), f"{fault} of {source.number}"

    def end_stream(self, stream: int) -> None:
        source = self.sources[stream]
        assert not source.ended, f"stream {stream} ends twice"
        assert source.exhausted, f"stream {stream} ends before its inputs"
        assert source.delivered == len(source.calls), f"stream {stream} ends with calls open"
        if source.left and not source.left_early:
            assert source.why is not None, f"stream {stream} ends short, and nobody is told"
        source.ended = True

    def answer(self, ticket: int, yes: bool, now: float) -> None:
        """Once for each ticket."""
        stream, number, _ = self.tickets.pop(ticket)  # a KeyError: answered twice
        call = self.find(stream, number)
        if yes and not call.unwanted:
            call.unwanted = True
            call.unwanted_at = now if call.running else call.unwanted_at

    def check_the_end(self) -> None:
        """Everything has come to its end."""
        for source in self.sources.values():
            missing = [number for number, call in enumerate(source.calls) if call.fate is None]
            assert not missing, f"stream {source.number}: calls without an end: {missing[:20]}"
            assert source.ended, f"stream {source.number} did not end"
        assert not self.tickets, f"tickets without an answer: {self.tickets}"
        assert self.ended, "the pool did not end"
