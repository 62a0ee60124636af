"""The record and its ring, written and read in any order of the two: what is read is what was written, once."""

import os
import random
from collections import deque
from collections.abc import Iterator

import pytest

from procoro.wire import record, ring
from procoro.wire.blocks import BIG

KINDS = (record.VALUE, record.VALUE, record.VALUE, record.FAILURE, record.BIG_VALUE, record.BIG_FAILURE)


@pytest.fixture
def sides() -> Iterator[tuple[record.Record, record.Record]]:
    """The worker's view and the parent's."""
    worker = record.Record.create()
    parent = record.Record(os.dup(worker.fd))
    yield worker, parent
    parent.close()
    worker.close()


class Play:
    """Outcomes on their way through the ring."""

    def __init__(
        self, sides: tuple[record.Record, record.Record], seed: int, kinds: tuple[int, ...] = (*KINDS, record.CUT)
    ) -> None:
        self.kinds = kinds
        self.worker, self.parent = (side.ring for side in sides)
        self.dice = random.Random(seed)
        self.unread: deque[tuple[int, int, int, bytes]] = deque()
        self.span, self.call = 1, 0

    def write(self, most: int) -> bool:
        dice = self.dice
        kind = dice.choice(self.kinds)
        body = dice.randbytes(8 if kind in (record.BIG_VALUE, record.BIG_FAILURE) else dice.randint(2, most))
        used = len(body) - (kind == record.VALUE)  # the next one overwrites a pickle's STOP
        if dice.random() < 0.1:
            self.span, self.call = self.span + dice.choice((0, 1)), dice.randrange(4096)
        if self.worker.write(self.span, self.call, kind, body, used):
            self.unread.append((self.span, self.call, kind, body[:used]))
            self.call += 1
            return True
        assert self.unread, "the ring is empty, and has no room"
        return False

    def read(self) -> None:
        for span, call, kind, cells, start, data in self.parent.read():
            assert len(cells) == 1 or kind == record.VALUE
            for at, cell in enumerate(cells):
                end = cell & ring.END_MASK
                assert (span, call + at, kind, data[: end - start]) == self.unread.popleft()
                data, start = data[end - start :], end
            assert not data
        assert not self.unread, "not all was read"


@pytest.mark.parametrize("kinds", [(*KINDS, record.CUT), (record.VALUE,)])
@pytest.mark.parametrize("most", [2, 300, BIG])
def test_what_is_read_from_the_ring_is_what_was_written(
    most: int, kinds: tuple[int, ...], sides: tuple[record.Record, record.Record]
) -> None:
    play = Play(sides, most, kinds)
    for _ in range(20 if most == BIG else 40):
        for _ in range(play.dice.randrange(6 * ring.DATA // (most + 2) if most > 300 else 3000)):
            if not play.write(most):
                break
        play.read()


def test_the_ring_is_full_when_it_holds_all_outcomes_that_it_can_name(
    sides: tuple[record.Record, record.Record],
) -> None:
    play = Play(sides, 1)
    for _ in range(3):
        while play.write(2):
            pass
        assert len(play.unread) == ring.OUTCOMES
        play.read()


@pytest.mark.parametrize("seed", range(10))
def test_the_ring_is_full_when_its_bytes_are(seed: int, sides: tuple[record.Record, record.Record]) -> None:
    play = Play(sides, seed)
    for _ in range(20):
        while play.write(BIG):
            pass
        assert sum(len(body) for *_, body in play.unread) >= ring.DATA - 2 * BIG - 8
        play.read()


@pytest.mark.parametrize("seed", range(20))
def test_what_is_recorded_is_read_once_and_as_it_was(seed: int, sides: tuple[record.Record, record.Record]) -> None:
    """The worker's side as in `worker.models.serial`; a slot is used again and again."""
    worker, parent = sides
    dice = random.Random(seed)
    for number in range(1, 30):
        slot, count = dice.randrange(record.SLOTS), dice.choice((1, 2, 50, record.CALLS))
        kinds = KINDS if dice.random() < 0.7 else (record.VALUE,)
        recorded = record.Recorded(parent, slot, number, 0, count)
        position, mark, seen = 0, number << record.SPAN_BITS, 0
        written: list[tuple[int, bytes]] = []
        plain_ones = dice.choice((0, 0, dice.randrange(count), count))
        for at in range(dice.choice((count, dice.randrange(count) + 1))):
            kind, body = dice.choice(kinds), dice.randbytes(dice.randint(2, 40))
            plain = (record.INT, record.FLOAT, record.TEXT)[number % 3]
            if at < plain_ones and plain != record.TEXT:
                kind, body = plain, dice.randbytes(8)
                worker.numbers[slot][8 * at : 8 * at + 8] = body
            else:
                kind = plain if at < plain_ones else kind
                worker.data[slot][position : position + len(body)] = body
                position += len(body)
                mark |= record.MIXED if kind not in (record.VALUE, record.TEXT) else 0
            worker.cells[slot][len(written)] = mark | kind << record.END_BITS | position
            written.append((kind, body))
            if len(written) == count or dice.random() < 0.02:
                for first, kind, cells, start, data in recorded.read():
                    assert first == seen
                    assert len(cells) == 1 or kind in (record.VALUE, record.INT, record.FLOAT, record.TEXT)
                    for cell in cells:
                        end = start + 8 if kind in record.FORMATS else cell & record.END_MASK
                        assert (kind, data[: end - start]) == written[seen]
                        data, start = data[end - start :], end
                        seen += 1
                    assert not data
                assert seen == len(written) == recorded.seen


def test_an_end_that_was_lowered_never_rises(sides: tuple[record.Record, record.Record]) -> None:
    worker, parent = sides
    parent.set_end(1, 7, 10)
    recorded = record.Recorded(parent, 1, 7, 0, 10)
    for calls, end in ((12, 10), (4, 4), (6, 4), (0, 0), (1, 0)):
        recorded.lower_end(calls)
        assert worker.header[record.ENDS + 1] == 7 << record.SPAN_BITS | end


def test_no_call_begins_behind_the_end_of_its_span(sides: tuple[record.Record, record.Record]) -> None:
    worker, parent = sides[0].ring, sides[1].ring
    parent.set_end(3, 7, 2)
    assert not worker.is_taken_back(3, 7)
    assert [worker.begin(3, 7, call) for call in range(3)] == [True, True, False]
    parent.set_end(4, 8, 0)
    begun = parent.header[ring.BEGUN]
    assert worker.is_taken_back(4, 8)
    assert not worker.begin(4, 8, 0)
    assert parent.header[ring.BEGUN] == begun, "it seems as if all before it had begun"
