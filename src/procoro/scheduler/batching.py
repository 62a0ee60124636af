"""How many calls travel together, learnt from how long they take and how much they return.

A packet should hold so much work that sending it costs little: 120 us of the parent, 300 us when its caches are cold,
200 us of the worker. (Measured on 10,000 heavy-tailed calls of 0.6 ms in the mean, share of the ideal by `map` and by
`imap`: packets of 12 ms 0.92 and 0.91, 24 ms 0.94 and 0.92, 36 ms 0.957 and 0.944, 48 ms 0.96 and 0.955.) Where
somebody may wait for it, it should be shorter: if several parties share the workers, or if calls are seen one by one.
"""

from __future__ import annotations

TARGET = 0.048  # seconds of work in a packet
SHARED = 0.012  # likewise, while several parties share the workers, or if a call takes longer than:
BRIEF = 0.001
LEAST = 0.0005  # seconds: towards the end packets shrink, but not below this
GROWTH = 8  # from one packet to the next, while run times are still being learnt
# At most record.CALLS, see tests/test_limits.py
MOST_CALLS = 4096
MOST_BYTES = 512 * 1024  # of inputs or of outcomes, in one packet
AHEAD = 0.01  # seconds of work at hand in a worker that runs many calls at once, beyond those that run
MOST_AHEAD = 1024
REMEMBERED = 1024  # functions


class Learnt:
    """What is known of one function's calls."""

    __slots__ = ("largest", "nbytes", "seconds")

    def __init__(self) -> None:
        self.seconds: float | None = None  # mean run time of a call
        self.nbytes = 0.0  # mean size of an outcome
        self.largest = 1  # calls in the largest packet that came back


class Batching:
    """Run times by function, and packet sizes from them."""

    def __init__(self) -> None:
        self._learnt: dict[object, Learnt] = {}

    def of(self, function: object) -> Learnt:
        """What is known of this function; the oldest of too many is forgotten."""
        learnt = self._learnt.get(function)
        if learnt is None:
            learnt = self._learnt[function] = Learnt()
            if len(self._learnt) > REMEMBERED:
                del self._learnt[next(iter(self._learnt))]
        return learnt

    def learn(self, function: object, calls: int, seconds: float) -> None:
        """`calls` calls of `function` took `seconds`, one after another."""
        learnt = self.of(function)
        mean = seconds / calls
        learnt.seconds = mean if learnt.seconds is None else (learnt.seconds + mean) / 2
        learnt.largest = max(calls, learnt.largest)

    def learn_bytes(self, function: object, calls: int, nbytes: int) -> None:
        """`calls` calls of `function` returned `nbytes` in all."""
        learnt = self.of(function)
        mean = nbytes / calls
        learnt.nbytes = mean if not learnt.nbytes else (learnt.nbytes + mean) / 2

    def expected(self, function: object, calls: int) -> float:
        """Seconds that so many calls will take, as far as is known (a small packet's worth if nothing is)."""
        mean = self.of(function).seconds
        return SHARED if mean is None else mean * calls

    def ahead(self, function: object, places: int) -> int:
        """Calls to have at hand in a worker that runs `places` of them at once: what it ends while we look away."""
        mean = self.of(function).seconds
        return 0 if mean is None else min(int(places * AHEAD / max(mean, 1e-6)), MOST_AHEAD)

    def crowd(self, function: object, weight: float) -> int:
        """Most calls in a packet whose calls run beside each other: their run time does not matter."""
        return max(1, min(MOST_CALLS, int(MOST_BYTES / max(weight, self.of(function).nbytes, 1))))

    def size(self, function: object, weight: float, remaining: int | None, workers: int, alone: bool) -> int:
        """Calls for the next packet. `weight`: bytes of one input; `remaining`: calls left, if known."""
        learnt = self.of(function)
        if learnt.seconds is None:
            return 1
        mean = max(learnt.seconds, 1e-9)
        target = TARGET if alone and mean < BRIEF else SHARED
        size = min(target / mean, GROWTH * learnt.largest, MOST_CALLS, MOST_BYTES / max(weight, learnt.nbytes, 1))
        if remaining is not None:
            # Guided self-scheduling (Polychronopoulos and Kuck, 1987): an even share of what is left.
            size = min(size, max(remaining / (2 * workers), LEAST / mean))
        return max(1, int(size))
