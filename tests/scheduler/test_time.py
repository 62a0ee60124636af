"""Who is served when, and how many calls travel together."""

from collections import Counter

import pytest

from procoro.scheduler import messages as m
from procoro.scheduler.batching import MOST_CALLS, SHARED, TARGET
from procoro.scheduler.scheduler import SOONER
from procoro.scheduler.streams import FURTHER, MOST_ITEMS, RESERVE
from tests.scheduler.clockwork import Clockwork

pytestmark = pytest.mark.pure

ALONE = MOST_ITEMS - MOST_ITEMS // RESERVE  # that one stream may have


def test_packets_grow_while_run_times_are_learnt() -> None:
    pool = Clockwork(1, lambda stream, number: 1e-7)
    pool.map(1, 100_000)
    pool.run()
    sizes = [sent.count for sent in pool.sent]
    assert sizes[0] == 1
    assert {1, 8, 64, 512, MOST_CALLS} <= set(sizes)
    assert max(sizes) == MOST_CALLS
    assert all(later <= 8 * max(sizes[: place + 1]) for place, later in enumerate(sizes[1:]))


@pytest.mark.parametrize(
    "seconds, parties, target",
    [(0.0001, 1, TARGET), (0.0009, 1, TARGET), (0.0001, 2, SHARED), (0.0011, 1, SHARED), (0.006, 1, SHARED)],
)
def test_a_packet_holds_so_much_work_that_nobody_waits_for_it(seconds: float, parties: int, target: float) -> None:
    pool = Clockwork(2, lambda stream, number: seconds)
    for stream in range(1, parties + 1):
        pool.map(stream, 40_000)
    pool.run()
    sizes = [sent.count for sent in pool.sent[20:-20]]
    assert sorted(sizes)[len(sizes) // 4] >= target / seconds * 0.5
    assert sorted(sizes)[-len(sizes) // 10] <= target / seconds * 1.1


def test_a_submit_beside_a_map_waits_no_longer_than_for_packets_that_are_shared() -> None:
    pool = Clockwork(2, lambda stream, number: 0.0005 if stream == 1 else 0.0001)
    pool.map(1, 1_000_000)
    pool.run(1.0)
    for stream in range(2, 30):
        began = pool.now
        pool.submit(stream, function="g")
        pool.run(began + 0.0617)
        assert pool.delivered[stream, 0] - began < SOONER + SHARED + 0.002


def test_long_calls_travel_alone_and_one_at_a_time() -> None:
    pool = Clockwork(2, lambda stream, number: 0.05)
    pool.map(1, 40)
    pool.run()
    assert {sent.count for sent in pool.sent} == {1}
    assert pool.now < 1.1  # 40 calls of 50 ms on two workers


def test_packets_shrink_towards_the_end() -> None:
    pool = Clockwork(4, lambda stream, number: 0.00005)
    pool.map(1, 3000)
    pool.run()
    sizes = [sent.count for sent in pool.sent]
    assert sizes[-1] < max(sizes) / 4
    assert len(pool.delivered) == 3000
    ends = [max(at for (_, number), at in pool.delivered.items() if number % 4 == k) for k in range(4)]
    assert max(ends) - min(ends) < TARGET


def test_a_chunk_that_was_asked_for_is_the_least_up_to_what_a_record_holds() -> None:
    pool = Clockwork(1, lambda stream, number: 1e-6)
    pool.map(1, 60, chunk=7)
    pool.run()
    assert pool.sent[0].count == 7
    pool.map(2, 5000, chunk=5000)
    pool.run()
    assert max(sent.count for sent in pool.sent) == MOST_CALLS


def test_long_calls_travel_in_the_chunks_that_were_asked_for() -> None:
    pool = Clockwork(1, lambda stream, number: 0.005)
    pool.map(1, 70, chunk=7)
    pool.run()
    assert {sent.count for sent in pool.sent} == {7}


def test_short_calls_travel_together_also_if_chunks_of_one_were_asked_for() -> None:
    pool = Clockwork(2, lambda stream, number: 1e-6)
    pool.map(1, 20_000, chunk=1)
    pool.run()
    assert len(pool.sent) < 200


def test_two_maps_share_the_workers_by_time_not_by_calls() -> None:
    pool = Clockwork(2, lambda stream, number: 0.02 if stream == 1 else 0.001)
    pool.map(1, 1000, "slow")
    pool.run(0.5)
    pool.map(2, 10_000, "fast")
    pool.run(4.5)
    slow = sum(0.02 for stream, number in pool.delivered if stream == 1 and pool.delivered[1, number] > 0.5)
    fast = sum(0.001 for stream, _ in pool.delivered if stream == 2)
    assert fast == pytest.approx(slow, rel=0.15)
    assert slow + fast > 7  # two workers, four seconds


def test_a_submit_does_not_wait_behind_a_map() -> None:
    pool = Clockwork(2, lambda stream, number: 0.001)
    pool.map(1, 100_000)
    pool.run(1.0)
    pool.submit(2, function="g")
    pool.run(1.1)
    assert pool.delivered[2, 0] < 1.03


def test_submits_that_follow_one_another_do_not_starve_a_map() -> None:
    pool = Clockwork(1, lambda stream, number: 0.002)
    pool.map(1, 10_000)
    for stream in range(2, 2002):
        pool.submit(stream)
    pool.run(2.0)
    mapped = sum(stream == 1 for stream, _ in pool.delivered)
    assert 0.4 < mapped / len(pool.delivered) < 0.6


def test_a_lane_that_had_nothing_to_do_saves_up_nothing() -> None:
    pool = Clockwork(1, lambda stream, number: 0.002)
    pool.submit(1)
    pool.map(2, 10_000)
    pool.run(5.0)  # the submits' lane has been idle for five seconds
    for stream in range(3, 1003):
        pool.submit(stream)
    before = len(pool.delivered)
    pool.run(6.0)
    mapped = sum(stream == 2 for stream, _ in list(pool.delivered)[before:])
    assert mapped > 150  # of about 500: not none


def test_a_long_call_delays_none_of_those_behind_it() -> None:
    pool = Clockwork(2, lambda stream, number: 60.0 if number == 300 else 0.0005)
    pool.map(1, 1000)
    pool.run()
    others = [at for (_, number), at in pool.delivered.items() if number != 300]
    assert max(others) < 0.0005 * 1000 + 0.1
    assert 60 < pool.delivered[1, 300] < 61


def test_what_is_taken_back_runs_before_what_came_later() -> None:
    pool = Clockwork(2, lambda stream, number: 5.0 if number == 300 else 0.0005)
    pool.map(1, 2000)
    pool.run()
    behind = [pool.delivered[1, number] for number in range(301, 310)]
    assert max(behind) < 0.0005 * 300 + 0.1


def test_a_long_packet_is_shared_when_others_have_nothing_to_do() -> None:
    pool = Clockwork(4, lambda stream, number: 0.0001 if number < 200 else 0.015)
    pool.map(1, 240)  # learnt to be short, and then they are not
    pool.run()
    assert pool.now < 40 * 0.015 / 4 + 0.15


def test_a_submit_does_not_wait_behind_packets_of_calls_that_have_become_slow() -> None:
    pool = Clockwork(2, lambda stream, number: 1e-6 if number < 50_000 else 0.01)
    pool.map(1, 200_000)  # two packets of thousands in each worker, when they become slow
    pool.run(1.0)
    assert max(sent.count for sent in pool.sent) > 1000
    for stream in range(2, 12):
        pool.submit(stream, function=stream)
        pool.run(pool.now + 0.2)
        assert (stream, 0) in pool.delivered


def test_all_workers_share_the_window_of_a_bounded_stream() -> None:
    pool = Clockwork(8, lambda stream, number: 1e-6)
    pool.map(1, 200_000, window=True)
    pool.run()
    # Nobody consumes: what fits into the window, in whole packets, is run by all.
    packet = ALONE // (2 * 8)
    assert ALONE - packet < len(pool.delivered) <= ALONE
    assert max(sent.count for sent in pool.sent) <= packet


def test_bounded_streams_share_the_window() -> None:
    """Or the first one would fill it, and each of the others would get its inputs in crumbs."""
    pool = Clockwork(2, lambda stream, number: 1e-6)
    for stream in range(1, 11):
        pool.map(stream, 20_000, window=True)
    pool.run()
    done = Counter(stream for stream, _ in pool.delivered)
    share = ALONE // 10
    assert share // 2 <= min(done.values()) and max(done.values()) <= share
    for _ in range(50):
        for stream in done:
            pool.tell(m.Consumed(stream, 100, 800))
            pool.run()
    assert len(pool.sent) < len(pool.delivered) / 10, "not one by one"


def test_a_bounded_stream_that_is_consumed_item_by_item_does_not_get_them_so() -> None:
    pool = Clockwork(2, lambda stream, number: 1e-6)
    for stream in range(1, 11):
        pool.map(stream, 20_000, window=True)
    pool.run()
    sent, delivered = len(pool.sent), len(pool.delivered)
    for _ in range(2000):
        for stream in range(1, 11):
            pool.tell(m.Consumed(stream, 1, 8))
            pool.run()
    assert len(pool.sent) - sent < (len(pool.delivered) - delivered) / 50


def take_all(pool: Clockwork, taken: Counter[int]) -> None:
    """Every stream's consumer takes what is there."""
    there = Counter(stream for stream, _ in pool.delivered)
    for stream, count in (there - taken).items():
        pool.tell(m.Consumed(stream, count, 8 * count))
    pool.run()
    taken.update(there - taken)


def test_of_many_streams_packets_are_half_a_share_and_of_lists_the_share_is_larger() -> None:
    streams = 50
    pool = Clockwork(2, lambda stream, number: 1e-6)
    for stream in range(1, streams + 1):
        pool.map(stream, 20_000, window=True)
    pool.run()
    taken: Counter[int] = Counter()
    for _ in range(5):
        take_all(pool, taken)
        assert len(pool.delivered) - taken.total() <= FURTHER * MOST_ITEMS
    assert max(sent.count for sent in pool.sent[-streams:]) == FURTHER * ALONE // streams // 2


@pytest.mark.parametrize("outer", ["list", "generator"])
@pytest.mark.parametrize("inner", ["list", "generator"])
def test_a_stream_within_the_loop_over_another_is_not_fed_crumbs(outer: str, inner: str) -> None:
    pool = Clockwork(2, lambda stream, number: 1e-6)
    taken: Counter[int] = Counter()
    for stream, kind in ((1, outer), (2, inner)):
        total = 100_000 if kind == "list" else None
        pool.inputs[stream] = 100_000
        pool.tell(m.Opened(stream, stream, "f", total=total, window=True))
        for _ in range(20):
            take_all(pool, taken)
        # From here on nobody takes of it
        taken[stream] = 100_000
    inner_sent = [sent.count for sent in pool.sent if sent.stream == 2]
    assert max(inner_sent) >= MOST_ITEMS // RESERVE // 4


def test_who_waits_for_room_of_lists_does_not_wait_for_that_of_generators() -> None:
    pool = Clockwork(2, lambda stream, number: 1e-6)
    for stream, total in ((1, None), (2, None), (3, 100_000), (4, 100_000)):
        pool.inputs[stream] = 100_000
        pool.tell(m.Opened(stream, stream, "f", total=total, window=True))
        pool.run()
    done = Counter(stream for stream, _ in pool.delivered)
    assert {1, 2, 3, 4} == set(done) and done[2] < done[1] and done[4] < done[3]
    pool.tell(m.Detached(3))
    pool.run()
    now = Counter(stream for stream, _ in pool.delivered)
    assert now[4] > done[4] and now[2] == done[2]


def test_a_consumer_that_comes_back_is_served_on() -> None:
    pool = Clockwork(2, lambda stream, number: 1e-5)
    pool.map(1, 20_000, window=True)
    pool.run()
    for taken in range(1000, 20_000, 1000):
        pool.tell(m.Consumed(1, 1000, 8000))
        pool.run()
        assert len(pool.delivered) > taken
    pool.tell(m.Detached(1))
    pool.run()
    assert len(pool.delivered) == 20_000


def ahead(pool: Clockwork, consumed: int) -> int:
    """Outcomes that are there when all that can be run has been, after so many were taken."""
    pool.tell(m.Consumed(1, consumed, 8 * consumed))
    before = len(pool.delivered)
    pool.run()
    return len(pool.delivered) - before


def test_who_keeps_up_with_a_list_may_have_more_of_it_ahead() -> None:
    pool = Clockwork(2, lambda stream, number: 1e-6)
    pool.map(1, 400_000, window=True)
    pool.run()
    first = len(pool.delivered)
    assert first <= MOST_ITEMS
    more = ahead(pool, first)
    assert MOST_ITEMS < more <= FURTHER * MOST_ITEMS
    assert max(sent.count for sent in pool.sent) > MOST_ITEMS // 4
    # From here on it is slow: no more than that, and less from when it is seen
    taken = 100
    for _ in range(FURTHER * MOST_ITEMS // taken):
        more += ahead(pool, taken) - taken
        assert more <= FURTHER * MOST_ITEMS
    assert more <= MOST_ITEMS


def test_who_is_slow_has_no_more_ahead_of_a_list_than_of_a_generator() -> None:
    pool = Clockwork(2, lambda stream, number: 1e-6)
    pool.map(1, 200_000, window=True)
    pool.run()
    for taken in range(100, 10_000, 100):
        ahead(pool, 100)
        assert len(pool.delivered) - taken <= MOST_ITEMS
