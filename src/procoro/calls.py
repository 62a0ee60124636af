"""Plain data that flows through every room: runs of calls, what they ended with, who is to blame.

A call has no object of its own while all goes well. It is a number in a stream, and travels in a `Piece`
(some calls of one stream, in order) until its outcome comes back in a `Run`.
"""

from __future__ import annotations

from collections.abc import Sequence


class Piece:
    """Calls `first` to `first + count - 1` of a stream, with their packed inputs.

    `items[offset:offset + count]` are the inputs. The list is shared by all pieces that were cut from it, so
    cutting costs nothing and the inputs live just as long as some call may still have to be sent.
    """

    __slots__ = ("count", "first", "items", "offset", "stream", "weight")

    def __init__(
        self, stream: int, first: int, items: Sequence[object], offset: int, count: int, weight: float
    ) -> None:
        self.stream = stream
        self.first = first
        self.items = items
        self.offset = offset
        self.count = count
        self.weight = weight  # mean bytes of one input

    def cut(self, start: int, stop: int) -> Piece:
        """The calls from `start` to `stop`, counted from this piece's first."""
        return Piece(self.stream, self.first + start, self.items, self.offset + start, stop - start, self.weight)

    def alone(self, at: int) -> Sequence[object]:
        """One call's input, in a sequence of the kind that it came in: that tells how it is packed."""
        return self.items[self.offset + at : self.offset + at + 1]

    def __repr__(self) -> str:
        return f"Piece({self.stream}: {self.first}..{self.first + self.count - 1})"


class Run:
    """Consecutive calls whose outcomes are known: many values, or one exception.

    `packed` is the outcome as the worker recorded it. Nobody between the record and the asker looks inside.
    """

    __slots__ = ("attempt", "count", "cut", "first", "nbytes", "ok", "packed")

    def __init__(self, first: int, count: int, ok: bool, nbytes: int, packed: object, cut: bool = False) -> None:
        self.first = first
        self.count = count
        self.ok = ok
        self.nbytes = nbytes
        self.packed = packed
        self.cut = cut  # it ended because it was asked to
        self.attempt = 1

    def __repr__(self) -> str:
        return f"Run({self.first}..{self.first + self.count - 1} {'ok' if self.ok else 'failed'})"


class FaultKind:
    """Why a call ended without an outcome of its own."""

    DIED = "died"  # its worker was lost while running it
    COLLATERAL = "collateral"  # its worker was ended because of another call
    TIMEOUT = "timeout"
    MEMORY = "memory"
    KILLED = "killed"  # Result.kill()
    CANCELLED = "cancelled"
    TERMINATED = "terminated"  # the pool was
    GAVE_UP = "gave up"  # no worker could be kept alive


class Fault:
    """One call that ended without an outcome: plain data, from which an error is built where it is read.

    `how` is what the engine said of the worker's end, `attempt` counts from 1. `among`: so many calls were running in
    the worker, and any of them may be the cause.
    """

    __slots__ = ("among", "attempt", "count", "first", "given", "how", "kind", "nbytes")

    def __init__(self, first: int, kind: str, how: object = None, attempt: int = 1) -> None:
        self.first = first
        self.count = 1
        self.nbytes = 0
        self.kind = kind
        self.how = how
        self.given: Sequence[object] = ()  # its input alone, packed as it came, where it is known
        self.attempt = attempt
        self.among = 1

    def __repr__(self) -> str:
        return f"Fault({self.first} {self.kind})"


class Ending(Fault):
    """How all that is left of a stream, or of the pool, ends: each of its calls gets a fault like this one."""

    __slots__ = ()

    def __init__(self, kind: str, how: object = None) -> None:
        super().__init__(0, kind, how)


class WorkerEnd:
    """All that is known of a worker's end."""

    __slots__ = ("failure", "memory", "oom", "pid", "reason", "status")

    def __init__(self, pid: int, status: int | None) -> None:
        self.pid = pid
        self.status = status  # as `wait` gives it; None if nobody could learn it
        self.failure: object = None  # the packed exception of its initializer
        self.reason = ""  # why it could not even be started
        self.memory = 0  # bytes, when last seen
        self.oom = False  # has the kernel killed a process for memory meanwhile?
