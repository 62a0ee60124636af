"""Everything the scheduler can be told (events) and everything it can ask for (effects).

Plain `__slots__` classes: a frozen dataclass each would cost the import 1.3 ms, a named tuple 0.3 ms.
"""

from __future__ import annotations

from collections.abc import Sequence

from procoro.calls import Ending, Fault, Run

# ------------------------------------------------------------------------------------------- events


class Opened:
    """A stream of calls of one function begins.

    `items`: all its inputs, packed, and `nbytes` in all; None: they are asked for with `Pull`. `window`: what has been
    pulled and not consumed is bounded. `many`: a worker may run several of its calls at once.
    """

    __slots__ = (
        "chunk",
        "function",
        "items",
        "lane",
        "many",
        "nbytes",
        "ordered",
        "retries",
        "stream",
        "timeout",
        "total",
        "window",
    )

    def __init__(
        self,
        stream: int,
        lane: int,
        function: object,
        *,
        items: Sequence[object] | None = None,
        nbytes: int = 0,
        window: bool = False,
        ordered: bool = False,
        total: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        chunk: int | None = None,
        many: bool = False,
    ) -> None:
        self.stream = stream
        self.lane = lane
        self.function = function  # whatever tells functions apart; run times are learnt by it
        self.items = items
        self.nbytes = nbytes
        self.window = window
        self.ordered = ordered
        self.total = total
        self.timeout = timeout
        self.retries = retries
        self.chunk = chunk
        self.many = many


class Supplied:
    """Inputs have arrived, packed: `len(items)` of them, `nbytes` in all."""

    __slots__ = ("items", "nbytes", "stream")

    def __init__(self, stream: int, items: Sequence[object], nbytes: int) -> None:
        self.stream = stream
        self.items = items
        self.nbytes = nbytes


class Exhausted:
    """No more inputs will come: the iterator ended, or raised, or was closed."""

    __slots__ = ("stream",)

    def __init__(self, stream: int) -> None:
        self.stream = stream


class Consumed:
    """The consumer has taken so many outcomes of a bounded stream."""

    __slots__ = ("count", "nbytes", "stream")

    def __init__(self, stream: int, count: int, nbytes: int) -> None:
        self.stream = stream
        self.count = count
        self.nbytes = nbytes


class Detached:
    """Nobody will ever take this stream's outcomes; its calls run all the same."""

    __slots__ = ("stream",)

    def __init__(self, stream: int) -> None:
        self.stream = stream


class DrainAsked:
    """Pull no more inputs. `drop`: also give up the calls that have not begun."""

    __slots__ = ("drop", "stream")

    def __init__(self, stream: int, drop: bool = False) -> None:
        self.stream = stream
        self.drop = drop


class Unbounded:
    """Somebody waits for the end of the pool, and may be the one who would have consumed: lift the bounds."""

    __slots__ = ()


class CancelAsked:
    """Cancel one call if it has not begun; with `kill`, also if it runs. Answered by `Answer(ticket, ...)`."""

    __slots__ = ("kill", "number", "stream", "ticket")

    def __init__(self, ticket: int, stream: int, number: int, kill: bool = False) -> None:
        self.ticket = ticket
        self.stream = stream
        self.number = number
        self.kill = kill


class WorkerReady:
    """A worker has run its initializer and waits for calls."""

    __slots__ = ("worker",)

    def __init__(self, worker: int) -> None:
        self.worker = worker


class Begun:
    """The worker has loaded the span's function: the clock of its first call runs from here.

    Of a span whose calls run beside each other, `calls` have begun, and all of the spans before it.
    """

    __slots__ = ("calls", "span", "worker")

    def __init__(self, worker: int, span: int, calls: int = 0) -> None:
        self.worker = worker
        self.span = span
        self.calls = calls


class Recorded:
    """More calls of a span have ended, in these runs."""

    __slots__ = ("runs", "span", "worker")

    def __init__(self, worker: int, span: int, runs: Sequence[Run]) -> None:
        self.worker = worker
        self.span = span
        self.runs = runs


class SpanEnded:
    """The worker is through with a span: it ran `ran` calls in `seconds`, and will not touch it again."""

    __slots__ = ("ran", "seconds", "span", "worker")

    def __init__(self, worker: int, span: int, ran: int, seconds: float) -> None:
        self.worker = worker
        self.span = span
        self.ran = ran
        self.seconds = seconds


class Cut:
    """The worker has begun `begun` calls of a span, some of which run, and will begin no more: one that was seen to be
    about to begin when calls were taken back, has not."""

    __slots__ = ("begun", "span", "worker")

    def __init__(self, worker: int, span: int, begun: int) -> None:
        self.worker = worker
        self.span = span
        self.begun = begun


class TakenBack:
    """Answer to `TakeBack`: of each span that is out, the worker will begin no call from its limit on."""

    __slots__ = ("limits", "worker")

    def __init__(self, worker: int, limits: dict[int, int]) -> None:
        self.worker = worker
        self.limits = limits


class WorkerDead:
    """A worker is seen to be dead; `WorkerLost` will say how that came. Nothing that it was in can still be late."""

    __slots__ = ("worker",)

    def __init__(self, worker: int) -> None:
        self.worker = worker


class WorkerLost:
    """A worker is gone, and all it had recorded has been told before.

    `begun` is the number of the last span that it took up, `how` whatever is known of its end. `killed`: a signal
    ended it; else it left by itself, or could not be started.
    """

    __slots__ = ("begun", "how", "killed", "worker")

    def __init__(self, worker: int, begun: int, how: object, killed: bool = False) -> None:
        self.worker = worker
        self.begun = begun
        self.how = how
        self.killed = killed


class MemorySeen:
    """A worker's memory, in bytes, as sampled."""

    __slots__ = ("nbytes", "worker")

    def __init__(self, worker: int, nbytes: int) -> None:
        self.worker = worker
        self.nbytes = nbytes


class MemoryShort:
    """The machine (or its cgroup) has become short of memory, or is not any more."""

    __slots__ = ("short",)

    def __init__(self, short: bool) -> None:
        self.short = short


class Tick:
    """Time has passed. All records have been read just before."""

    __slots__ = ()


class CloseAsked:
    """No more streams will be opened; let the workers go when all calls have ended. `cancel`: those that have not
    begun, too."""

    __slots__ = ("cancel",)

    def __init__(self, cancel: bool = False) -> None:
        self.cancel = cancel


class TerminateAsked:
    """End everything now."""

    __slots__ = ()


Event = (
    Opened
    | Supplied
    | Exhausted
    | Consumed
    | Detached
    | DrainAsked
    | Unbounded
    | CancelAsked
    | WorkerReady
    | Begun
    | Recorded
    | SpanEnded
    | Cut
    | TakenBack
    | WorkerDead
    | WorkerLost
    | MemorySeen
    | MemoryShort
    | Tick
    | CloseAsked
    | TerminateAsked
)

# ------------------------------------------------------------------------------------------ effects


class StartWorker:
    """Start a worker under this number."""

    __slots__ = ("worker",)

    def __init__(self, worker: int) -> None:
        self.worker = worker


class RetireWorker:
    """Ask an idle worker to leave."""

    __slots__ = ("worker",)

    def __init__(self, worker: int) -> None:
        self.worker = worker


class KillWorker:
    """End a worker at once. Its death is reported like any other."""

    __slots__ = ("worker",)

    def __init__(self, worker: int) -> None:
        self.worker = worker


class Send:
    """Send these inputs to a worker, as the span of this number; `first` is the number of the first call.

    `many`: they may run beside each other, and beside those of other such spans.
    """

    __slots__ = ("count", "first", "items", "many", "offset", "span", "stream", "worker")

    def __init__(
        self,
        worker: int,
        span: int,
        stream: int,
        first: int,
        items: Sequence[object],
        offset: int,
        count: int,
        many: bool = False,
    ) -> None:
        self.worker = worker
        self.span = span
        self.stream = stream
        self.first = first
        self.items = items
        self.offset = offset
        self.count = count
        self.many = many


class EndCall:
    """Ask a worker to end one of the calls that it runs beside others: the `call`-th of the span."""

    __slots__ = ("call", "span", "worker")

    def __init__(self, worker: int, span: int, call: int) -> None:
        self.worker = worker
        self.span = span
        self.call = call


class TakeBack:
    """See to it that the worker begins no call beyond the one it may be in; answer `TakenBack`."""

    __slots__ = ("worker",)

    def __init__(self, worker: int) -> None:
        self.worker = worker


class Pull:
    """Pull up to `count` inputs of at most `nbytes` (one at least); answer `Supplied` and/or `Exhausted`."""

    __slots__ = ("count", "nbytes", "stream")

    def __init__(self, stream: int, count: int, nbytes: int) -> None:
        self.stream = stream
        self.count = count
        self.nbytes = nbytes


class StopPulling:
    """This stream wants no more inputs: close its iterator. `ending`: why those that are left will never be calls."""

    __slots__ = ("ending", "stream")

    def __init__(self, stream: int, ending: Ending | None = None) -> None:
        self.stream = stream
        self.ending = ending


class Deliver:
    """Hand these outcomes over; no call in them will ever be delivered again."""

    __slots__ = ("outcome", "stream")

    def __init__(self, stream: int, outcome: Run | Fault) -> None:
        self.stream = stream
        self.outcome = outcome


class StreamEnded:
    """Every call of the stream has been delivered, and no more will come."""

    __slots__ = ("stream",)

    def __init__(self, stream: int) -> None:
        self.stream = stream


class Answer:
    """The answer to `CancelAsked`: will the call end by it?"""

    __slots__ = ("ticket", "yes")

    def __init__(self, ticket: int, yes: bool) -> None:
        self.ticket = ticket
        self.yes = yes


class GiveUp:
    """Workers cannot be started: the pool takes no more calls. `how`: the end of the last one that tried."""

    __slots__ = ("how",)

    def __init__(self, how: object) -> None:
        self.how = how


class Ended:
    """All calls have ended and all workers are gone: the last effect there is."""

    __slots__ = ()


Effect = (
    StartWorker
    | RetireWorker
    | KillWorker
    | Send
    | EndCall
    | TakeBack
    | Pull
    | StopPulling
    | Deliver
    | StreamEnded
    | Answer
    | GiveUp
    | Ended
)
