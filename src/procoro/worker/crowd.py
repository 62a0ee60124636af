"""Calls that run beside each other in this worker: which may begin next, and what has become of each.

A model (see `models`) runs them: by threads, greenlets or tasks. All it has to do is to ask for a call when it has
a place for one (`begin`), and to say how it went (`pack`, `end`).
"""

from __future__ import annotations

import gc
import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from pickle import dumps  # by name: calls may patch the modules
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from procoro import kernel
from procoro.wire import channel, handles, record
from procoro.wire.blocks import BIG
from procoro.worker import copies, outcomes

if TYPE_CHECKING:
    from procoro.worker.heart import Heart
    from procoro.worker.loop import Span, Worker

# Outcomes that the parent has not been told of are announced after a share of the time that their calls took, between
# these seconds. (It costs the parent 150 µs each time: every 2 ms, that is a tenth of two cores.)
SHARE, RING, LONGEST_RING = 0.2, 0.002, 0.006
FEW = 8  # calls: if fewer run, and none waits, they are announced at once; the caller may wait for each
FULL = 0.0005  # seconds to wait for the parent when there is no room for an outcome
AT_A_TIME = 1000  # ends of spans in a message
OBJECTS = 10  # that a call holds while it runs, about


class Model(Protocol):
    """What runs calls beside each other."""

    def serve(self, message: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
        """Run calls, those of this message first; return the message that is not for a model, when it comes."""


class Crowd:
    """A span whose calls run beside each other."""

    __slots__ = ("begun", "handles", "open", "seconds", "span", "through")

    def __init__(self, span: Span, arrived: list[int]) -> None:
        self.span = span
        self.handles = arrived
        self.begun = 0  # calls
        self.open = 0  # of those, not ended
        self.through = False  # no more of it will begin
        self.seconds = 0.0  # of all its calls


class Call:
    """One call that runs."""

    __slots__ = ("at", "began", "crowd", "key", "span")

    def __init__(self, crowd: Crowd, span: Span, at: int) -> None:
        self.crowd = crowd
        self.span = span
        self.at = at
        self.key = span.number, at  # what the parent calls it
        self.began = clock()

    def run(self) -> Any:
        """Call the function."""
        return self.span.call(self.span.take(self.at))


class Feed:
    """What a model takes calls from.

    `adapt` makes of a function what is to be called; `ring_later` calls `ring_if_due` after so many seconds.
    """

    def __init__(self, worker: Worker, adapt: Callable[[Any], Any], ring_later: Callable[[float], object]) -> None:
        self.context = copy_context()  # with what the initializer has set
        self._worker = worker
        self._printed = worker.printed  # not empty: there is something to write out
        self._ring_of = worker.memory.ring
        self._adapt = adapt
        self._ring_later = ring_later
        self._waiting: deque[Crowd] = deque()
        self.waiting = 0  # calls that have not begun,
        self._running = 0  # and that have, and not ended
        self._ended: list[bytes] = []
        self._rang = 0.0
        self._will_ring = False
        self._sleep = kernel.original("time", "sleep")
        self._is_copy = False
        os.register_at_fork(after_in_child=self._disown)

    def _disown(self) -> None:
        """In a child that a call has forked: it has no part in the pool."""
        self._is_copy = True
        self._waiting.clear()
        self.waiting = 0

    def take_in(self, message: bytes, fds: list[int]) -> int:
        """Take a message in; how many calls came with it. -1: it is not for us."""
        kind = message[:1]
        if kind == channel.CROWD:
            arrived = self._worker.inputs()
            _, _, _, slot, number, _, _, contents = channel.SPAN_HEAD.unpack_from(message)
            if self._ring_of.is_taken_back(slot, number):  # whole: its function is not even loaded
                with self._worker.arriving(), suppress(Exception):  # the next span tells
                    self._worker.library.catch_up(contents)
                self._pass_over(number, arrived, fds)
                return 0
            crowd = Crowd(self._worker.unpack(message, fds, self._adapt), arrived)
            self._waiting.append(crowd)
            self.waiting += len(crowd.span.inputs)
            return len(crowd.span.inputs)
        if kind in (channel.HANDLE, channel.INPUT_HANDLE):
            self._worker.take_handle(message, fds)
            return 0
        return -1

    def _pass_over(self, number: int, arrived: list[int], fds: list[int]) -> None:
        kernel.close_all(fds)
        handles.forget(arrived)
        self._ended.append(channel.CROWD_ENDED.pack(number, 0, 0.0))
        self._announce(clock())

    def begin(self) -> Call | None:
        """The next call, which has begun by that; None if there is none, or if they were taken back."""
        while self._waiting:
            crowd = self._waiting[0]
            span, at = crowd.span, crowd.begun
            if self._ring_of.begin(span.slot, span.number, at):
                crowd.begun += 1
                crowd.open += 1
                self._running += 1
                self.waiting -= 1
                if crowd.begun == len(span.inputs):
                    self._waiting.popleft()
                    crowd.through = True
                return Call(crowd, span, at)
            self._waiting.popleft()
            self.waiting -= len(span.inputs) - at
            crowd.through = True
            if crowd.open:  # the parent may have seen that this call was about to begin
                self._worker.say_between(channel.CROWD_CUT_HEAD.pack(channel.CROWD_CUT, span.number, at))
            else:
                self._say_ended(crowd)
                self._announce(clock())
        return None

    def holds(self, span: int, at: int) -> bool:
        """Is this call here, and has not begun?"""
        return any(crowd.span.number == span and at >= crowd.begun for crowd in self._waiting)

    # ---- outcomes

    def pack(self, call: Call, value: Any) -> tuple[int, bytes]:
        """The kind and the bytes of a value."""
        if self._printed:
            self._flush()
        try:
            body = dumps(value, 3)
        except BaseException:
            body = b""
        if body and len(body) <= BIG:
            return record.VALUE, body
        kind, body, _ = outcomes.awkward(self._worker, value, body, False, call.at, call.span)
        return outcomes.fit(self._worker, kind, body)

    def pack_failure(self, call: Call, error: BaseException) -> tuple[int, bytes]:
        """The kind and the bytes of an exception."""
        if os.getpid() != self._worker.pid:
            self._worker.write_out()
            copies.leave(error)
        if self._printed:
            self._flush()
        body = outcomes.failure(self._worker, error, call.at, call.span)
        return outcomes.fit(self._worker, record.FAILURE, body)

    def end(self, call: Call, kind: int, body: bytes) -> None:
        """Record how a call has ended."""
        crowd = call.crowd
        while not self._ring_of.write(*call.key, kind, body, len(body) - (kind == record.VALUE)):
            self.ring()
            self._sleep(FULL)
        now = clock()
        took = now - call.began
        crowd.seconds += took
        crowd.open -= 1
        self._running -= 1
        if crowd.through and not crowd.open:
            self._say_ended(crowd)
        self._announce(now, min(max(SHARE * took, RING), LONGEST_RING))

    def _say_ended(self, crowd: Crowd) -> None:
        self._ended.append(channel.CROWD_ENDED.pack(crowd.span.number, crowd.begun, crowd.seconds))
        handles.forget(crowd.handles)

    # ---- telling

    def _announce(self, now: float, patience: float = RING) -> None:
        if now - self._rang > patience or (self._running < FEW and not self.waiting):
            self.ring()
        elif not self._will_ring:
            self._will_ring = True
            self._ring_later(patience)

    def ring_if_due(self) -> None:
        """Let the parent know, if nobody has meanwhile."""
        if self._will_ring:
            self.ring()

    def ring(self) -> None:
        """Let the parent know what is new."""
        if self._is_copy:
            return
        self._will_ring = False
        self._rang = clock()
        ended, self._ended = self._ended, []
        for first in range(0, len(ended), AT_A_TIME):
            self._worker.say_between(channel.CROWDS_ENDED + b"".join(ended[first : first + AT_A_TIME]))
        if not ended:
            self._worker.look()

    def give_up(self, error: BaseException) -> NoReturn:
        """What a call has come to cannot be told: nobody is to wait for that. The worker ends, and the call with it."""
        try:
            sys.excepthook(type(error), error, error.__traceback__)
            self._worker.write_out()
        finally:
            os._exit(1)

    def _flush(self) -> None:
        """Write out what calls have printed. A copy that a call has forked ends here, as a program at its end."""
        self._worker.write_out()
        if os.getpid() != self._worker.pid:
            os._exit(0)


class Places:
    """The calls that run, each by a runner (a task, a greenlet) that can be ended; and how many more there may be.

    `start` starts a runner, which is to `begin` at once; `end` asks one to end.
    """

    def __init__(
        self, feed: Feed, count: int, heart: Heart, start: Callable[[], object], end: Callable[[Any], object]
    ) -> None:
        self._feed = feed
        self._count = count
        self._heart = heart
        self._start = start
        self._end = end
        self._runners: dict[tuple[int, int], Any] = {}  # by call
        self._taken = 0  # also by runners that have not begun
        self._asked: set[tuple[int, int]] = set()  # calls that were asked to end
        youngest, *older = gc.get_threshold()
        if youngest:  # else the user has no collector
            # Looking at the 700 newest objects, as by default, it finds all of them in use: a sixth of a worker's time.
            gc.set_threshold(max(youngest, OBJECTS * count), *older)

    def take_in(self, message: bytes, fds: list[int]) -> bool:
        """Take a message in. False: it is not for a model."""
        if message[:1] == channel.END_CALL:
            _, span, at = channel.END_CALL_HEAD.unpack(message)
            runner = self._runners.get((span, at))
            if runner is not None:
                self._asked.add((span, at))
                self._end(runner)
            elif self._feed.holds(span, at):
                self._asked.add((span, at))  # its runner comes with the next turn of the loop
        elif self._feed.take_in(message, fds) < 0:
            return False
        self._fill()
        self._heart.beat_while(self._taken)
        return True

    def _fill(self) -> None:
        while self._taken < self._count and self._feed.waiting > self._taken - len(self._runners):  # those not born yet
            self._taken += 1
            self._start()

    def begin(self, runner: Any) -> Call | None:
        """A call for this runner; None: it is not needed. Chosen only now: until then, calls can be taken back."""
        while (call := self._feed.begin()) is not None:
            if call.key not in self._asked:
                self._runners[call.key] = runner
                return call
            self._asked.discard(call.key)
            _, body = self._feed.pack_failure(call, InterruptedError("it was ended before it began"))
            self._feed.end(call, record.CUT, body)
        self._taken -= 1
        if not self._taken:
            self._heart.beat_while(0)
        return None

    def returned(self, call: Call, value: Any) -> None:
        """A call has returned."""
        try:
            self._leave(call, *self._feed.pack(call, value))
        except BaseException as error:
            self._feed.give_up(error)

    def raised(self, call: Call, error: BaseException, ends: type[BaseException]) -> None:
        """A call has raised; `ends` is what it raises when it was asked to end."""
        try:
            kind, body = self._feed.pack_failure(call, error)
            was_asked = call.key in self._asked and isinstance(error, ends)
            self._leave(call, record.CUT if was_asked else kind, body)
        except BaseException as bad:
            self._feed.give_up(bad)

    def _leave(self, call: Call, kind: int, body: bytes) -> None:
        del self._runners[call.key]
        if self._asked:
            self._asked.discard(call.key)
        self._taken -= 1
        self._feed.end(call, kind, body)
        if self._feed.waiting:
            self._fill()
        if not self._taken:
            self._heart.beat_while(0)
