"""The books of all streams: inputs asked for and supplied, bounds, outcomes and their order, the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from procoro.calls import Ending, Fault, FaultKind, Piece, Run
from procoro.scheduler.backlog import Backlog, Lane
from procoro.scheduler.batching import MOST_CALLS, SHARED, Batching
from procoro.scheduler.fleet import WINDOW
from procoro.scheduler.messages import (
    Consumed,
    Deliver,
    Detached,
    Effect,
    Exhausted,
    Opened,
    Pull,
    StopPulling,
    StreamEnded,
    Supplied,
    Unbounded,
)

MOST_ITEMS = 4095  # pulled and not yet taken, in all bounded streams of a kind; a feeder may hold one more
MOST_BYTES = 16 * 1024 * 1024
HEAVY = 2  # outcomes may weigh more than the inputs that were let in: from so many times that on, calls wait
# So many times that for lists, tuples and ranges whose consumers keep up with brief calls: packets of a thousand end
# faster than they are replaced, if each takes 0.2 µs; and no input is made earlier by that. (Longer ones would come in
# waves, and keep a consumer that computes from its core: 0.75 of its speed in place of 0.9, if both take 20 µs.)
FURTHER = 4
MOMENT = 5e-6  # seconds: the longest brief call
RESERVE = 8  # a part of the window that is left to who comes later, say an `imap` within the loop over another
BACK_OFF = 0.1  # seconds before the first retry, doubled for each that follows
LONGEST_BACK_OFF = 30.0


class Window:
    """What bounded streams whose inputs are of one kind share. `further`: so many times as much for who keeps up."""

    __slots__ = ("cramped", "further", "items", "sharers")

    def __init__(self, further: int) -> None:
        self.further = further
        self.items = 0  # asked for or pulled, and not yet consumed
        self.sharers = 0  # streams that have more inputs
        self.cramped: dict[int, Stream] = {}  # those of them that wait for room that others hold, in their order


class Stream:
    """The books of one stream of calls."""

    __slots__ = (
        "abreast",
        "apart",
        "asked",
        "asked_nbytes",
        "attempts",
        "backing_off",
        "deaths",
        "ended",
        "ending",
        "exhausted",
        "held",
        "items",
        "killed",
        "nbytes",
        "next",
        "open_calls",
        "open_nbytes",
        "opened",
        "supplied",
        "window",
    )

    def __init__(self, opened: Opened, window: Window | None) -> None:
        self.opened = opened
        self.window = window  # None: it is not bounded
        self.supplied = 0  # inputs that have arrived
        self.open_calls = 0  # of those, without an outcome
        self.open_nbytes = 0.0
        self.backing_off = 0  # of those, failed and waiting for the time of their retry
        self.asked = 0  # inputs asked for by a Pull that is not answered
        self.asked_nbytes = 0
        self.exhausted = False  # no more inputs will come
        self.ended = False
        self.ending: Ending | None = None  # stopped before its time: what its waiting calls end like
        self.items = 0  # window: asked for or pulled, and not yet taken by the consumer
        self.nbytes = 0.0  # of those, inputs or outcomes
        self.abreast = False  # does the consumer keep up with brief calls?
        self.attempts: dict[int, int] = {}  # of calls that have failed and run again
        self.killed: set[int] = set()  # calls that are not to be run again
        self.apart: set[int] = set()  # calls to be run again alone in a worker: each may have been its end
        self.deaths = 0  # workers lost to this stream's calls, one after another with no outcome between
        self.next = 0  # ordered: the first call that has not been delivered
        self.held: dict[int, Run | Fault] = {}  # ordered: outcomes that wait for those before them

    def remaining(self) -> int | None:
        """Calls that have not been supplied, if their number is known."""
        if self.exhausted:
            return 0
        return None if self.opened.total is None else self.opened.total - self.supplied

    def unread(self) -> int:
        """window: calls whose outcomes wait for the consumer."""
        return self.items - self.asked - self.open_calls

    def attempt(self, number: int) -> int:
        """Which attempt at this call is the present one: 1, 2, ..."""
        return self.attempts.get(number, 0) + 1

    def ready(self, outcome: Run | Fault) -> Iterator[Run | Fault]:
        """What may be delivered now that this outcome is there, in the stream's order."""
        if not self.opened.ordered:
            yield outcome
            return
        self.held[outcome.first] = outcome
        while (following := self.held.pop(self.next, None)) is not None:
            self.next += following.count
            yield following


class Streams:
    """All streams of a pool. Touches no worker: calls come from here, and return with an outcome."""

    def __init__(
        self, backlog: Backlog, batching: Batching, workers: int, places: int, do: Callable[[Effect], None]
    ) -> None:
        self.backlog = backlog
        self.batching = batching
        self.workers = workers
        self.places = places  # calls that a worker may run at once
        self.most_items = max(MOST_ITEMS, 2 * workers * places - 1)
        self.most_nbytes = MOST_BYTES
        self.by_number: dict[int, Stream] = {}
        self.running = 0  # streams that have not ended
        self.generators = Window(1)
        self.sequences = Window(FURTHER)  # whose inputs are there anyway
        self.nbytes = 0.0  # of bounded streams: asked for or pulled, and not yet consumed
        self._pulled: dict[int, Stream] = {}  # those that have more inputs
        self.changed: dict[int, Stream] = {}  # of those, whose books have changed since `pull`: it may be its turn
        self._do = do

    def of(self, piece: Piece) -> Stream:
        """The stream whose calls these are."""
        return self.by_number[piece.stream]

    # ------------------------------------------------------------------------------- what is told of them

    def open(self, event: Opened, ending: Ending | None) -> None:
        """A stream begins; in a pool that is over, all its calls end like `ending`."""
        kind = self.generators if event.total is None else self.sequences
        stream = self.by_number[event.stream] = Stream(event, kind if event.window else None)
        self.running += 1
        self.backlog.open(event.stream, event.lane)
        if event.items is not None:
            stream.exhausted = True
            self._supply_with(stream, event.items, event.nbytes)
            event.items = ()
        else:
            self._pulled[event.stream] = self.changed[event.stream] = stream
            if stream.window is not None:
                stream.window.sharers += 1
        if ending is not None:
            self.stop(stream, ending)

    def on_supplied(self, event: Supplied, now: float) -> None:
        """New calls: behind all others of their lane."""
        stream = self.by_number[event.stream]
        self._ask(stream, 0, 0)
        self._count(stream, len(event.items), event.nbytes)
        self._look_at(stream)
        self._supply_with(stream, event.items, event.nbytes)

    def _supply_with(self, stream: Stream, items: Sequence[object], nbytes: int) -> None:
        count = len(items)
        piece = Piece(stream.opened.stream, stream.supplied, items, 0, count, nbytes / count)
        stream.supplied += count
        stream.open_calls += count
        stream.open_nbytes += nbytes
        self.wait(piece)

    def on_exhausted(self, event: Exhausted, now: float) -> None:
        """The stream may end when its calls have."""
        stream = self.by_number.get(event.stream)
        if stream is not None:
            self._ask(stream, 0, 0)
            self._pull_no_more(stream)
            stream.exhausted = True
            self._close(stream)

    def on_consumed(self, event: Consumed, now: float) -> None:
        """Room for more."""
        stream = self.by_number.get(event.stream)
        if stream is not None:
            self._count(stream, -event.count, -event.nbytes)
            if stream.window is not None:
                seconds = self.batching.of(stream.opened.function).seconds
                keeps_up = stream.unread() < self._most(stream, stream.window) // 2
                stream.abreast = keeps_up and seconds is not None and seconds < MOMENT
            self._look_at(stream)
            self._close(stream)

    def on_detached(self, event: Detached, now: float) -> None:
        """Outcomes that nobody takes hold no room."""
        stream = self.by_number.get(event.stream)
        if stream is not None:
            self._unbind(stream)

    def on_unbounded(self, event: Unbounded, now: float) -> None:
        """No stream waits for its consumer any more."""
        for stream in list(self.by_number.values()):
            self._unbind(stream)

    # ------------------------------------------------------------------------------------------- inputs

    def pull(self) -> None:
        """Ask for the inputs that the workers will need next."""
        for window in (self.generators, self.sequences):
            while window.cramped:
                number, stream = next(iter(window.cramped.items()))
                if not self._pull(stream):
                    break  # there is no room, and so there is none for those behind it
                del window.cramped[number]
        for number, stream in self.changed.items():
            if not self._pull(stream) and stream.window is not None:
                stream.window.cramped[number] = stream
        self.changed.clear()

    def may_pull(self) -> bool:
        """May there be inputs to ask for?"""
        return bool(self.changed or self.generators.cramped or self.sequences.cramped)

    def _pull(self, stream: Stream) -> bool:
        """Ask one for more, if it has too little. False: there is no room for that."""
        number = stream.opened.stream
        if stream.asked or number not in self._pulled:
            return True
        size, level = self._supply_of_many(stream) if stream.opened.many else self._supply(stream)
        at_hand = stream.open_calls - stream.backing_off
        items, nbytes = self._allowance(stream)
        wanted = min(level - at_hand, items)
        if wanted > size:
            wanted -= wanted % size  # whole packets, no crumbs
        # No crumbs for who has something: each would come back as crumbs again (Clark, 1982: silly window syndrome).
        if wanted > 0 and (wanted >= size or not (at_hand if stream.window is None else stream.items)):
            self._ask(stream, wanted, nbytes)
            self._do(Pull(number, wanted, nbytes))
            return True
        if stream.window is None:
            return True
        room = self._most(stream, stream.window) - stream.window.items if self.most_nbytes - self.nbytes >= 2 else 0
        return room >= min(size, level - at_hand)

    def _look_at(self, stream: Stream) -> None:
        """Its books have changed: it may want more now."""
        number = stream.opened.stream
        if number in self._pulled:
            self.changed[number] = stream

    def _supply(self, stream: Stream) -> tuple[int, int]:
        """How many inputs to ask for at a time, and up to how many to have."""
        size = self.packet(stream)
        mean = self.batching.of(stream.opened.function).seconds
        packets = WINDOW + 1 if mean is not None and mean <= SHARED else 2
        return size, packets * self.workers * size

    def _supply_of_many(self, stream: Stream) -> tuple[int, int]:
        """The same, of calls that run beside each other."""
        ahead = self.batching.ahead(stream.opened.function, self.places)
        size = ahead // 2
        if stream.window is not None:
            size = min(size, self._part(stream, stream.window))
        return max(1, size), self.workers * (self.places + 2 * ahead)

    def packet(self, stream: Stream, weight: float = 0.0, remaining: int | None = None) -> int:
        """How many of its calls travel together. `weight`: bytes of one input; `remaining`: calls left, if known."""
        opened = stream.opened
        alone = len(self.backlog.lanes) == 1
        size = self.batching.size(opened.function, weight, remaining, self.workers, alone)
        if opened.chunk is not None:
            size = max(size, min(opened.chunk, MOST_CALLS))
        if stream.window is not None:
            size = min(size, max(1, self._part(stream, stream.window)))
        return size

    def _allowance(self, stream: Stream) -> tuple[int, int]:
        """How many items and bytes may be pulled now. Some items are always granted, so that no stream starves."""
        if stream.window is None:
            nbytes = int(self.most_nbytes - stream.open_nbytes)
            items = max(MOST_CALLS * (WINDOW + 1), 2 * self.places) * self.workers
            return (items, nbytes) if nbytes > 0 else (0, 0)
        window = stream.window
        items = min(self._most(stream, window) - window.items, self._share(stream, window) - stream.items)
        items = max(items, 2 * self.workers - stream.items)
        # Half of what is left: one who is asked and does not answer leaves room for the others.
        nbytes = int(self.most_nbytes - self.nbytes) // 2
        if nbytes > 0:
            return items, nbytes
        return (0, 0) if stream.items else (1, 1)  # the bound is 16 MiB or one item

    def _most(self, stream: Stream, window: Window) -> int:
        """Items that there may be in the window, for this stream to pull more."""
        return (window.further if stream.abreast else 1) * self.most_items

    def _share(self, stream: Stream, window: Window) -> int:
        """Items that one stream may hold of it: or the first would leave the others crumbs."""
        most = self._most(stream, window)
        return (most - most // RESERVE) // max(1, window.sharers)

    def _part(self, stream: Stream, window: Window) -> int:
        """Items of its share that may go to one worker at a time: all workers are to have some of the window."""
        return self._share(stream, window) // max(2, WINDOW * self.workers // max(1, window.sharers))

    def _ask(self, stream: Stream, items: int, nbytes: int) -> None:
        """What has been asked for counts as if it were there; nothing is asked for when it was answered."""
        self._count(stream, items - stream.asked, nbytes - stream.asked_nbytes)
        stream.asked, stream.asked_nbytes = items, nbytes

    def _count(self, stream: Stream, items: int, nbytes: float) -> None:
        if stream.window is not None:
            stream.items += items
            stream.nbytes += nbytes
            stream.window.items += items
            self.nbytes += nbytes

    def _unbind(self, stream: Stream) -> None:
        self._count(stream, -stream.items, -stream.nbytes)
        if stream.window is not None and stream.opened.stream in self._pulled:
            stream.window.sharers -= 1
        stream.window = None
        self._look_at(stream)
        self._close(stream)

    def stop_pulling(self, stream: Stream, ending: Ending | None = None) -> None:
        """Whoever pulls closes the iterator and answers `Exhausted`; till then the stream stays open."""
        if self._pull_no_more(stream):
            self._do(StopPulling(stream.opened.stream, ending))

    def _pull_no_more(self, stream: Stream) -> bool:
        """It has no more inputs, or none that are wanted. False: that was known."""
        if self._pulled.pop(stream.opened.stream, None) is None:
            return False
        if stream.window is not None:
            stream.window.sharers -= 1
        return True

    # ----------------------------------------------------------------------------------------- outcomes

    def is_heavy(self) -> bool:
        """Do outcomes take all memory that they may?"""
        return self.nbytes > HEAVY * self.most_nbytes

    def is_full(self, lane: Lane) -> bool:
        """Do outcomes take all memory that they may, so that this lane's calls have to wait till some are taken?

        Not if its consumer has none to take, and none is to be expected: then it would wait for ever.
        """
        if not self.is_heavy():
            return False
        stream = self.of(lane.pieces[0])
        if stream.window is None:
            return False
        kept = sum(outcome.count for outcome in stream.held.values())
        return stream.unread() > kept or stream.open_calls > lane.waiting + stream.backing_off

    def wait(self, piece: Piece) -> None:
        """Calls that now wait, unless they are not to be run."""
        stream = self.of(piece)
        if stream.ending is not None:
            self.end_like(piece, stream.ending)
        elif piece.first in stream.killed:  # it was about to begin, and has not
            rest = piece.cut(1, piece.count)
            if rest.count:
                self.backlog.put(rest)
            self.end_like(piece.cut(0, 1), Ending(FaultKind.KILLED))
        else:
            self.backlog.put(piece)

    def stop(self, stream: Stream, ending: Ending) -> None:
        """End a stream before its time: what waits ends like `ending`, what runs may finish."""
        if not stream.ended:
            stream.ending = ending
            self.stop_pulling(stream, ending)
            stream.backing_off = 0
            for piece in self.backlog.remove_all(stream.opened.stream):
                self.end_like(piece, ending)

    def end_like(self, piece: Piece, ending: Ending) -> None:
        """Calls that will not run end like this."""
        stream = self.of(piece)
        for at in range(piece.count):
            self.finish(stream, piece.cut(at, at + 1), self.fault(piece, at, ending.kind, ending.how))

    def fault(self, piece: Piece, at: int, kind: str, how: object) -> Fault:
        """What the `at`-th call of a piece ends with, where it has no outcome of its own."""
        number = piece.first + at
        fault = Fault(number, kind, how, self.of(piece).attempt(number))
        fault.given = piece.alone(at)
        return fault

    def cancel(self, stream: int, number: int) -> bool:
        """End a call that waits. False if it does not wait."""
        books = self.by_number.get(stream)
        if books is None or books.ended:
            return False
        piece = self.backlog.remove(stream, number)
        if piece is None:
            piece = self.backlog.remove_later(stream, number)
            if piece is None:
                return False
            books.backing_off -= 1
        self.end_like(piece, Ending(FaultKind.CANCELLED))
        return True

    def conclude(self, piece: Piece, outcome: Run | Fault, now: float) -> None:
        """Calls have run: these end, or this one has failed and is to be retried."""
        stream, number, attempt = self.of(piece), outcome.first, outcome.attempt
        failed = isinstance(outcome, Fault) or not outcome.ok
        if failed and attempt <= stream.opened.retries and stream.ending is None and number not in stream.killed:
            if isinstance(outcome, Fault) and outcome.among > 1:
                stream.apart.add(number)
            stream.attempts[number] = attempt
            stream.backing_off += 1
            self._look_at(stream)
            self.backlog.put_off(piece, now + min(BACK_OFF * 2 ** (attempt - 1), LONGEST_BACK_OFF))
        else:
            self.finish(stream, piece, outcome)

    def wake(self, now: float) -> None:
        """The time of some retries has come."""
        for piece in self.backlog.due(now):
            self.of(piece).backing_off -= 1

    def finish(self, stream: Stream, piece: Piece, outcome: Run | Fault) -> None:
        """The one place where calls end: the calls of `piece`, with `outcome`."""
        nbytes = piece.weight * piece.count
        stream.open_calls -= piece.count
        stream.open_nbytes -= nbytes
        self._count(stream, 0, outcome.nbytes - nbytes)
        self._look_at(stream)
        if stream.attempts:
            stream.attempts.pop(outcome.first, None)
            stream.apart.discard(outcome.first)
        stream.killed.discard(outcome.first)
        for ready in stream.ready(outcome):
            self._do(Deliver(stream.opened.stream, ready))
        self._close(stream)

    def _close(self, stream: Stream) -> None:
        if not stream.exhausted or stream.open_calls:
            return
        number = stream.opened.stream
        if not stream.ended:
            stream.ended = True
            self.running -= 1
            self.backlog.forget(number)
            self._do(StreamEnded(number))
        if stream.items <= 0:  # else its outcomes hold room until they are consumed
            self._count(stream, -stream.items, -stream.nbytes)  # shares of bytes were rounded
            del self.by_number[number]
