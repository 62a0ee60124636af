"""What waits: streams of calls, their order, their bounds, and whose turn it is.

A lane is the unit of fairness: every map has one of its own, all submits of a pool share one. The lane that has
been served least comes next (stride scheduling: Waldspurger and Weihl, 1995).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from procoro.calls import Fault, Piece, Run
from procoro.scheduler.messages import Opened

MOST_ITEMS = 4096  # pulled and not yet taken by the consumer, in all bounded streams of a pool
MOST_BYTES = 16 * 1024 * 1024


class Stream:
    """The books of one stream of calls."""

    __slots__ = (
        "asked",
        "attempts",
        "deaths",
        "delivered",
        "detached",
        "ended",
        "ending",
        "exhausted",
        "held",
        "items",
        "nbytes",
        "next",
        "opened",
        "open_calls",
        "stopped",
        "supplied",
        "window",
    )

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.window = opened.window
        self.supplied = 0  # inputs that have arrived
        self.delivered = 0
        self.open_calls = 0  # supplied and without an outcome
        self.stopped = False  # whoever pulls has been told to stop
        self.exhausted = False  # no more inputs will come
        self.ended = False
        self.ending: Fault | None = None  # stopped before its time: what its waiting calls end like
        self.detached = False
        self.asked = 0  # inputs asked for by a Pull that is not answered
        self.items = 0  # pulled and not yet taken by the consumer
        self.nbytes = 0.0  # of those, inputs or outcomes
        self.attempts: dict[int, int] = {}  # of calls that have failed and run again
        self.deaths = 0  # workers lost to this stream's calls, one after another with no outcome between
        self.next = 0  # ordered: the first call that has not been delivered
        self.held: dict[int, Run | Fault] = {}  # ordered: outcomes that wait for those before them

    def remaining(self) -> int | None:
        """Calls that are not yet sent or done, if their number is known; waiting ones are counted by the caller."""
        if self.exhausted:
            return 0
        return None if self.opened.total is None else self.opened.total - self.supplied

    def ready(self, outcome: Run | Fault) -> Iterator[Run | Fault]:
        """What may be delivered now that this outcome is there, in the stream's order."""
        if not self.opened.ordered:
            yield outcome
            return
        self.held[outcome.first] = outcome
        while (following := self.held.pop(self.next, None)) is not None:
            self.next += following.count
            yield following


class Lane:
    """One party among which the workers are shared."""

    __slots__ = ("number", "pieces", "served", "waiting")

    def __init__(self, number: int, served: float) -> None:
        self.number = number
        self.served = served  # seconds of work, sent for it
        self.pieces: deque[Piece] = deque()
        self.waiting = 0  # calls in pieces


class Backlog:
    """All streams of a pool, and the calls that wait in them."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self.lanes: dict[int, Lane] = {}
        self.items = 0  # of bounded streams: pulled and not yet consumed
        self.nbytes = 0.0
        self._later: list[tuple[float, int, Piece]] = []  # retries that are not yet due
        self._tie = 0

    # ---- streams

    def open(self, opened: Opened) -> None:
        """Make room for a stream; its lane may be there already."""
        self.streams[opened.stream] = Stream(opened)
        if opened.lane not in self.lanes:
            least = min((lane.served for lane in self.lanes.values() if lane.pieces), default=0.0)
            self.lanes[opened.lane] = Lane(opened.lane, least)

    def lane_of(self, piece: Piece) -> Lane:
        """The lane in which a piece waits."""
        return self.lanes[self.streams[piece.stream].opened.lane]

    def forget(self, stream: int) -> None:
        """A stream is over; its lane goes with the last of its streams (the shared lane 0 stays)."""
        lane = self.streams.pop(stream).opened.lane
        if lane:
            self.lanes.pop(lane, None)

    # ---- pieces

    def append(self, piece: Piece) -> None:
        """New calls: behind all others of their lane."""
        lane = self.lane_of(piece)
        lane.pieces.append(piece)
        lane.waiting += piece.count

    def put_back(self, piece: Piece) -> None:
        """Calls that were sent and not begun: whoever waited longest stays first."""
        lane = self.lane_of(piece)
        lane.pieces.appendleft(piece)
        lane.waiting += piece.count

    def next_lane(self) -> Lane | None:
        """The lane whose turn it is, among those with calls."""
        best = None
        for lane in self.lanes.values():
            if lane.pieces and (best is None or lane.served < best.served):
                best = lane
        return best

    def take(self, lane: Lane, most: int) -> Piece:
        """Up to `most` calls off the head of a lane."""
        piece = lane.pieces.popleft()
        if piece.count > most:
            lane.pieces.appendleft(piece.cut(most, piece.count))
            piece = piece.cut(0, most)
        lane.waiting -= piece.count
        return piece

    def remove(self, stream: int, number: int) -> bool:
        """Take one waiting call out, for good. False if it does not wait here."""
        lane = self.lanes[self.streams[stream].opened.lane]
        for index, piece in enumerate(lane.pieces):
            if piece.stream == stream and piece.first <= number < piece.first + piece.count:
                at = number - piece.first
                rest = [piece.cut(0, at), piece.cut(at + 1, piece.count)]
                del lane.pieces[index]
                for part in reversed(rest):
                    if part.count:
                        lane.pieces.insert(index, part)
                lane.waiting -= 1
                return True
        for entry in self._later:
            if entry[2].stream == stream and entry[2].first == number:
                self._later.remove(entry)
                heapq.heapify(self._later)
                return True
        return False

    def remove_all(self, stream: int) -> list[int]:
        """Take all waiting calls of a stream out; their numbers."""
        lane = self.lanes[self.streams[stream].opened.lane]
        gone = [piece for piece in lane.pieces if piece.stream == stream]
        lane.pieces = deque(piece for piece in lane.pieces if piece.stream != stream)
        lane.waiting -= sum(piece.count for piece in gone)
        gone += [entry[2] for entry in self._later if entry[2].stream == stream]
        self._later = [entry for entry in self._later if entry[2].stream != stream]
        heapq.heapify(self._later)
        return sorted(number for piece in gone for number in range(piece.first, piece.first + piece.count))

    # ---- retries

    def put_off(self, piece: Piece, until: float) -> None:
        """A call that failed runs again at `until`."""
        self._tie += 1
        heapq.heappush(self._later, (until, self._tie, piece))

    def due(self, now: float) -> bool:
        """Put the retries whose time has come at the head of their lanes."""
        any_due = False
        while self._later and self._later[0][0] <= now:
            self.put_back(heapq.heappop(self._later)[2])
            any_due = True
        return any_due

    def next_due(self) -> float | None:
        """When the next retry is due."""
        return self._later[0][0] if self._later else None

    # ---- bounds

    def count_in(self, stream: Stream, items: int, nbytes: float) -> None:
        """Inputs of a bounded stream have arrived (or, negative, have left)."""
        if stream.window:
            stream.items += items
            stream.nbytes += nbytes
            self.items += items
            self.nbytes += nbytes

    def allowance(self, stream: Stream, floor: int) -> tuple[int, int]:
        """How many items and bytes may be pulled now. `floor` items are always granted, so that no stream starves."""
        asked = sum(other.asked for other in self.streams.values())
        items = max(MOST_ITEMS - self.items - asked, floor - stream.items - stream.asked)
        nbytes = int(MOST_BYTES - self.nbytes)
        if nbytes <= 0 and stream.items == 0:
            return 1, 1  # the bound is 16 MiB or one item
        return (items, nbytes) if nbytes > 0 else (0, 0)
