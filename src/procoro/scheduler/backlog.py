"""What waits: calls in their order, whose turn it is, and retries that are not yet due.

A lane is the unit of fairness: every map has one of its own, all submits of a pool share one. The lane that has
been served least comes next, and one that had nothing to do saves up nothing (start-time fair queueing: Goyal,
Vin and Cheng, 1996).
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence

from procoro.calls import Piece


class Lane:
    """One party among which the workers are shared."""

    __slots__ = ("number", "pieces", "served", "since", "streams", "waiting")

    def __init__(self, number: int) -> None:
        self.number = number
        self.streams = 0
        self.served = 0.0  # seconds of work: done for it, or expected of what was sent
        self.since = 0  # its place among all that ever began to wait, counted from 1; 0: it does not wait
        self.pieces: list[Piece] = []  # by stream and number: in the order in which they were handed in
        self.waiting = 0  # calls in pieces


class Backlog:
    """The calls of a pool that wait."""

    def __init__(self) -> None:
        self.lanes: dict[int, Lane] = {}
        self.waiting: dict[int, Lane] = {}  # those with calls
        self._turns: list[tuple[float, int, Lane]] = []  # a heap, by served and since; those of the past do not count
        self._began = 0  # how often a lane has begun to wait
        self._lane_of: dict[int, Lane] = {}  # by stream
        self._reached = 0.0  # what the lane that came last had been served
        self._later: list[tuple[float, int, Piece]] = []  # retries that are not yet due
        self._tie = 0

    def open(self, stream: int, lane: int) -> None:
        """Make room for a stream; its lane may be there already."""
        self._lane_of[stream] = self.lanes.setdefault(lane, Lane(lane))
        self._lane_of[stream].streams += 1

    def forget(self, stream: int) -> None:
        """A stream is over; its lane goes with the last of its streams."""
        lane = self._lane_of.pop(stream)
        lane.streams -= 1
        if not lane.streams:
            del self.lanes[lane.number]

    # ---- pieces

    def put(self, piece: Piece) -> None:
        """Calls that wait: new ones, and such as were sent and not begun. Who was handed in first stays first."""
        insort(self._wake(piece).pieces, piece, key=_order)

    def _wake(self, piece: Piece) -> Lane:
        lane = self._lane_of[piece.stream]
        if not lane.pieces:
            lane.served = max(lane.served, self._reached)
            self.waiting[lane.number] = lane
            self._began += 1
            lane.since = self._began
            heapq.heappush(self._turns, (lane.served, lane.since, lane))
        lane.waiting += piece.count
        return lane

    def next_lane(self, passed_over: Sequence[Lane] = ()) -> Lane | None:
        """The lane whose turn it is, among those with calls."""
        turns, aside = self._turns, []
        chosen = None
        while turns and chosen is None:
            served, since, lane = turns[0]
            if since != lane.since or served != lane.served:
                heapq.heappop(turns)
            elif lane in passed_over:
                aside.append(heapq.heappop(turns))
            else:
                chosen = lane
        for turn in aside:
            heapq.heappush(turns, turn)
        return chosen

    def take(self, lane: Lane, most: int) -> Piece:
        """Up to `most` calls off the head of a lane."""
        self._reached = max(self._reached, lane.served)
        piece = lane.pieces[0]
        if piece.count > most:
            lane.pieces[0] = piece.cut(most, piece.count)
            piece = piece.cut(0, most)
        else:
            del lane.pieces[0]
        self._taken(lane, piece.count)
        return piece

    def _taken(self, lane: Lane, count: int) -> None:
        lane.waiting -= count
        if not lane.waiting and lane.since:
            del self.waiting[lane.number]
            lane.since = 0

    def charge(self, stream: int, seconds: float) -> None:
        """So much work was sent or done for a stream beyond what was expected (negative: less)."""
        lane = self._lane_of.get(stream)
        if lane is None:
            return
        served = lane.served + seconds
        if seconds < 0 and (other := self.next_lane((lane,))) is not None and served < other.served <= lane.served:
            served = other.served  # what it had been charged for when that one came is no reason to be served before it
        lane.served = served
        if lane.since:
            heapq.heappush(self._turns, (lane.served, lane.since, lane))
        if len(self.waiting) == (lane.number in self.waiting):
            self._reached = max(self._reached, lane.served)  # nobody else wanted it: nothing is owed

    def remove(self, stream: int, number: int) -> Piece | None:
        """Take one call out. None if it does not wait in its lane."""
        lane = self._lane_of[stream]
        index = bisect_right(lane.pieces, (stream, number), key=_order) - 1
        if index < 0 or lane.pieces[index].stream != stream:
            return None
        piece = lane.pieces[index]
        at = number - piece.first
        if at >= piece.count:
            return None
        rest = (piece.cut(0, at), piece.cut(at + 1, piece.count))
        lane.pieces[index : index + 1] = [part for part in rest if part.count]
        self._taken(lane, 1)
        return piece.cut(at, at + 1)

    def remove_all(self, stream: int) -> list[Piece]:
        """Take all calls of a stream out, in their order."""
        lane = self._lane_of[stream]
        start, stop = (bisect_left(lane.pieces, (number, 0), key=_order) for number in (stream, stream + 1))
        gone = lane.pieces[start:stop]
        del lane.pieces[start:stop]
        self._taken(lane, sum(piece.count for piece in gone))
        gone += [piece for _, _, piece in self._later if piece.stream == stream]
        self._later = [entry for entry in self._later if entry[2].stream != stream]
        heapq.heapify(self._later)
        return sorted(gone, key=lambda piece: piece.first)

    # ---- retries

    def put_off(self, piece: Piece, until: float) -> None:
        """A call that failed waits for its time."""
        self._tie += 1
        heapq.heappush(self._later, (until, self._tie, piece))

    def due(self, now: float) -> Iterator[Piece]:
        """Put the retries whose time has come at the head of their lanes."""
        while self._later and self._later[0][0] <= now:
            piece = heapq.heappop(self._later)[2]
            self.put(piece)
            yield piece

    def next_due(self) -> float | None:
        """When the next retry is due."""
        return self._later[0][0] if self._later else None

    def remove_later(self, stream: int, number: int) -> Piece | None:
        """Take one call out of those that were put off. None if it is not among them."""
        for entry in self._later:
            if entry[2].stream == stream and entry[2].first == number:
                self._later.remove(entry)
                heapq.heapify(self._later)
                return entry[2]
        return None


def _order(piece: Piece) -> tuple[int, int]:
    return piece.stream, piece.first
