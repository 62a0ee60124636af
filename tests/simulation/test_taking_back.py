"""The handshake in which calls are taken back from a worker that runs, at every step that one can make between the
other's: no call that was taken back is begun."""

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from procoro.engines.crowds import Crowds
from procoro.engines.series import Series
from procoro.wire import record, ring

SPANS = {7: 3, 8: 2}  # calls in each
STEPS = 16  # of the worker, at most
READS = 20  # of the parent, at least


class Watched:
    """Memory; whenever the parent reads or writes it, the worker has its turn first."""

    def __init__(self, memory: Any, turn: Callable[[], None]) -> None:
        self.memory, self.turn = memory, turn

    def __getitem__(self, at: Any) -> Any:
        self.turn()
        return self.memory[at]

    def __setitem__(self, at: int, value: int) -> None:
        self.turn()
        self.memory[at] = value


class Play:
    """A worker with two spans, and its parent, who takes calls back from it."""

    def __init__(self, memory: record.Record, schedule: dict[int, int]) -> None:
        self.memory, self.header = memory, memory.header
        self.schedule = schedule  # how many steps the worker makes before the parent's n-th
        self.reads = 0
        self.begun: list[tuple[int, int]] = []
        self.worker = self.live()

    def live(self) -> Iterator[None]:
        """Each `yield` stands between two instructions."""
        raise NotImplementedError

    def turn(self) -> None:
        for _ in range(self.schedule.get(self.reads, 0)):
            next(self.worker, None)
        self.reads += 1

    def take_back(self) -> dict[int, int]:
        """As `Member.take_back` does. (Here every store is seen at once.)"""
        raise NotImplementedError

    def check(self, times: int) -> None:
        for _ in range(times):
            limits = self.take_back()
        for _ in self.worker:
            pass
        late = [(span, call) for span, call in self.begun if call >= limits[span]]
        assert not late, f"taken back ({limits}), and begun all the same: {late}; {self.schedule}"


class OneByOne(Play):
    """As in `worker.models.serial` and `engines.series`."""

    def __init__(self, memory: record.Record, schedule: dict[int, int]) -> None:
        super().__init__(memory, schedule)
        self.cells = memory.cells
        memory.header[record.TAKEN] = 0
        for cells in memory.cells:
            cells[0] = cells[1] = cells[2] = 0
        self.series = Series(memory)
        self.slots = {span: self.series.add(span, 0, count) for span, count in SPANS.items()}

    def live(self) -> Iterator[None]:
        for span, slot in self.slots.items():
            self.header[record.TAKEN] = span
            yield
            for call in range(SPANS[span]):
                end = self.header[record.ENDS + slot]
                yield
                if call >= end - (span << record.SPAN_BITS):
                    break
                self.begun.append((span, call))
                yield
                self.cells[slot][call] = span << record.SPAN_BITS
                yield

    def look(self) -> None:
        for recorded in self.series.out.values():
            list(recorded.read())

    def take_back(self) -> dict[int, int]:
        self.memory.header = Watched(self.header, self.turn)  # type: ignore[assignment]
        self.memory.cells = [Watched(cells, self.turn) for cells in self.cells]  # type: ignore[misc]
        try:
            self.look()
            self.series.lower_ends()
            limits = self.series.limits(self.look)
        finally:
            self.memory.header, self.memory.cells = self.header, self.cells
        for span, recorded in self.series.out.items():
            assert recorded.seen <= limits[span] <= min(recorded.seen + 1, SPANS[span]), f"{span}: {limits}"
        return limits


class BesideEachOther(Play):
    """As in `worker.crowd` and `engines.crowds`."""

    def __init__(self, memory: record.Record, schedule: dict[int, int]) -> None:
        super().__init__(memory, schedule)
        self.ring, self.ends = memory.ring, memory.ring.ends
        for word in (record.TAKEN, record.LOADED, ring.BEGUN):
            memory.header[word] = 0
        self.crowds = Crowds(memory)
        self.slots = {span: self.crowds.add(span, 0, count) for span, count in SPANS.items()}

    def live(self) -> Iterator[None]:
        for span, slot in self.slots.items():
            if self.ends[slot] <= span << ring.CALL_BITS:
                continue
            yield
            self.header[record.TAKEN] = span
            yield
            self.header[record.LOADED] = span
            yield
            for call in range(SPANS[span]):
                begun = span << ring.CALL_BITS | call + 1
                if not call and self.ends[slot] < begun:
                    break
                yield
                self.header[ring.BEGUN] = begun
                yield
                if self.ends[slot] < begun:
                    break
                self.begun.append((span, call))
                yield

    def take_back(self) -> dict[int, int]:
        watched: Any = Watched(self.header, self.turn)
        self.memory.header = self.ring.header = self.crowds._header = watched
        self.ring.ends = Watched(self.ends, self.turn)  # type: ignore[assignment]
        try:
            self.crowds.begun()
            lowered = self.crowds.lower_ends()
            self.crowds.begun()
            return self.crowds.limits(lowered)
        finally:
            self.memory.header = self.ring.header = self.crowds._header = self.header
            self.ring.ends = self.ends


@pytest.fixture
def memory() -> Iterator[record.Record]:
    memory = record.Record.create()
    yield memory
    memory.close()


kinds = pytest.mark.parametrize("kind", [OneByOne, BesideEachOther])


@kinds
def test_whatever_the_worker_does_in_between(kind: type[Play], memory: record.Record) -> None:
    for before, once, again in itertools.product(range(STEPS), range(1, 5), range(6)):
        for first, second in itertools.combinations(range(1, READS), 2):
            kind(memory, {0: before, first: once, second: again}).check(1)


@kinds
def test_again_and_again(kind: type[Play], memory: record.Record) -> None:
    dice = random.Random(1)
    for _ in range(5000):
        kind(memory, {read: dice.choice((0, 0, 0, 1, 1, 2, 5)) for read in range(READS)}).check(dice.choice((1, 2, 3)))
