"""Workers that run many calls at once: what is sent, what begins, how one call is ended, and who is to blame."""

import pytest

from procoro.calls import Fault, FaultKind, Run
from procoro.scheduler import messages as m
from procoro.scheduler.crowds import GRACE, LOADING
from procoro.scheduler.scheduler import DEADLY, FAILURES, HUNG, LONG
from tests.scheduler.stage import Stage, kinds

pytestmark = pytest.mark.pure


class Crowded(Stage):
    """Its streams are of calls that may run beside each other."""

    def __init__(self, size: int = 1, places: int = 10, **options: int) -> None:
        super().__init__(size, places=places, **options)

    def many(self, count: int, stream: int = 1, **options: object) -> m.Send:
        """One more stream of so many calls; what was sent last."""
        self.submit(stream, count, many=True, **options)
        return self.all(m.Send)[-1]

    def begin(self, sent: m.Send, calls: int) -> list[m.Effect]:
        """The function is loaded, and so many calls have begun."""
        return self.tell(m.Begun(sent.worker, sent.span), m.Begun(sent.worker, sent.span, calls))

    def cut(self, sent: m.Send, at: int) -> list[m.Effect]:
        """A call has ended because it was asked to."""
        return self.tell(m.Recorded(sent.worker, sent.span, [Run(sent.first + at, 1, False, 8, "packed", cut=True)]))

    def take_back(self, **limits: int) -> list[m.Effect]:
        """Worker 1 begins nothing from these limits on; they are named by their spans: `s1=3`."""
        return self.tell(m.TakenBack(1, {int(name[1:]): limit for name, limit in limits.items()}))

    def faults(self) -> dict[int, tuple[str, int]]:
        """Calls that ended without an outcome: how, and among how many."""
        outcomes = [effect.outcome for effect in self.all(m.Deliver)]
        return {fault.first: (fault.kind, fault.among) for fault in outcomes if isinstance(fault, Fault)}


# ---- sending


def test_a_worker_is_given_as_many_as_it_can_run() -> None:
    stage = Crowded(places=10)
    sent = stage.many(25)
    assert (sent.many, sent.count) == (True, 10)
    stage.begin(sent, 10)
    stage.record(sent, 4, 3)  # they end in any order
    assert stage.outcomes() == {4: "ok", 5: "ok", 6: "ok"}
    assert stage.all(m.Send)[-1].count == 3
    assert stage.scheduler.fleet.workers[1].held == 10


def test_workers_are_filled_alike() -> None:
    stage = Crowded(3)
    stage.many(9)
    assert [(sent.worker, sent.count) for sent in stage.all(m.Send)] == [(1, 3), (2, 3), (3, 3)]


def test_a_worker_that_holds_much_does_not_keep_what_waits_from_an_empty_one() -> None:
    stage = Crowded(3, places=10)
    stage.scheduler.fleet.workers[1].held = 9
    stage.many(8)
    assert [(sent.worker, sent.count) for sent in stage.all(m.Send)] == [(2, 4), (3, 4)]


def test_an_empty_worker_comes_before_a_full_one_that_may_have_some_at_hand() -> None:
    stage = Crowded(2, places=1, most_calls=100)
    stage.scheduler.batching.learn("f", 1, 1e-4)  # so short that calls are sent ahead
    stage.scheduler.fleet.workers[2].calls = 99  # it may run one more
    assert stage.many(1).worker == 1
    assert stage.many(1, 2).worker == 2


def test_a_worker_runs_calls_in_one_way_at_a_time() -> None:
    stage = Crowded(1)
    sent = stage.many(1)
    stage.submit(2, 1)
    assert len(stage.all(m.Send)) == 1
    stage.begin(sent, 1)
    stage.record(sent, 0)
    stage.end(sent, 1)
    assert (stage.all(m.Send)[-1].stream, stage.all(m.Send)[-1].many) == (2, False)


def test_calls_of_many_use_their_places_when_those_of_one_are_served() -> None:
    stage = Crowded(2, ready=False)
    stage.scheduler.batching.learn("f", 1, 1e-4)
    stage.tell(m.WorkerReady(1))
    stage.begin(stage.many(1), 1)
    stage.submit(2, 1)  # they wait until a worker is empty,
    stage.submit(3, 1)
    stage.many(1, 4)  # and this one behind them
    assert len(stage.all(m.Send)) == 1
    stage.tell(m.WorkerReady(2))
    assert [(sent.worker, sent.stream) for sent in stage.all(m.Send)] == [(1, 1), (2, 2), (2, 3), (1, 4)]


def test_when_memory_is_short_one_call_runs_and_no_more() -> None:
    stage = Crowded(2)
    stage.tell(m.MemoryShort(True))
    assert stage.many(5).count == 1
    assert len(stage.all(m.Send)) == 1


def test_a_stream_that_shares_the_window_does_not_wait_for_its_longest_call() -> None:
    """Short calls want many at hand, and more than its share of the window would never be free."""
    stage = Crowded(2, places=32)
    stage.scheduler.batching.learn("f", 1000, 0.001)
    streams = range(1, 11)
    for stream in streams:
        stage.tell(m.Opened(stream, stream, "f", window=True, many=True))
    pulls = {pull.stream: pull.count for pull in stage.all(m.Pull)}
    for stream, count in pulls.items():
        stage.tell(m.Supplied(stream, range(count), 8 * count))
    for sent in stage.all(m.Send):
        long = sent.first == 0
        stage.begin(sent, sent.count)
        stage.record(sent, long, sent.count - long)
    stage.effects.clear()
    for stream, count in pulls.items():
        stage.tell(m.Consumed(stream, count - 1, 8 * (count - 1)))
    assert {pull.stream for pull in stage.all(m.Pull)} == set(streams)


def test_a_window_has_room_for_all_that_may_run_at_once() -> None:
    assert Crowded(4, places=1000).scheduler.streams.most_items == 2 * 4 * 1000 - 1
    assert Crowded(4, places=1).scheduler.streams.most_items == 4095


# ---- what has begun


def test_a_function_that_is_loaded_has_not_begun() -> None:
    stage = Crowded(places=2)
    stage.scheduler.batching.learn("f", 1, 1e-3)
    stage.submit(1, 2, many=True)
    stage.submit(2, 2, many=True)
    first, second = stage.all(m.Send)
    stage.begin(first, 1)
    stage.tell(m.Begun(1, second.span))  # it is taken in while the places are full
    assert not stage.scheduler.is_running(1, 1)
    stage.tell(m.WorkerLost(1, second.span, "gone"))
    assert stage.faults() == {0: (FaultKind.DIED, 1)}


def test_spans_that_were_taken_back_do_not_hide_those_before_them() -> None:
    stage = Crowded()
    first, second = stage.many(1), stage.many(1, 2)
    stage.wait()
    stage.take_back(s1=1, s2=0)  # the first may be what it loads
    stage.tell(m.Begun(1, first.span))
    third = stage.all(m.Send)[-1]
    assert third.span > second.span
    stage.tell(m.Begun(1, third.span), m.Begun(1, third.span, 1))
    assert stage.scheduler.is_running(1, 0)


def test_calls_that_cannot_be_sent_do_not_wait_on() -> None:
    stage = Crowded()
    sent = stage.many(2)
    stage.record(sent, 0, ok=False)
    stage.record(sent, 1, ok=False)
    stage.end(sent, 2)
    worker = stage.scheduler.fleet.workers[1]
    assert (worker.held, worker.waiting) == (0, 0)


# ---- a worker that does not begin what it holds


def test_what_waits_behind_a_blocked_loop_is_taken_back_and_goes_elsewhere() -> None:
    stage = Crowded(1)
    sent = stage.many(3)
    stage.begin(sent, 1)
    assert kinds(stage.wait()) == ["TakeBack"]
    assert stage.now == LONG
    stage.take_back(s1=1)
    assert len(stage.all(m.Send)) == 1  # it is stuck
    assert kinds(stage.tell(m.Begun(1, sent.span, 2))) == ["Send"]  # it moves: it has found the second taken back
    assert stage.all(m.Send)[-1].first == 1


def test_a_call_that_was_just_sent_is_not_late_because_others_run_long() -> None:
    stage = Crowded()
    stage.begin(stage.many(1), 1)
    stage.now = 60.0
    stage.many(1, 2)
    assert stage.scheduler.wake_at() == 60.0 + LONG


def test_a_full_worker_gives_up_what_another_has_a_place_for() -> None:
    stage = Crowded(2, places=2)
    stage.scheduler.batching.learn("f", 1, 5e-3)
    stage.many(6)
    first, second = stage.all(m.Send)
    assert first.count == 3
    stage.begin(first, 2)
    stage.begin(second, 2)
    stage.record(second, 0, 2)
    stage.tell(m.Begun(2, second.span, 3))  # it has a place now, and is not empty
    assert kinds(stage.wait()) == ["TakeBack"]
    stage.take_back(**{f"s{first.span}": 2})
    assert stage.all(m.Send)[-1].worker == 2


def test_a_worker_that_is_through_and_does_not_say_so_is_replaced() -> None:
    stage = Crowded()
    sent = stage.many(1)
    stage.begin(sent, 1)
    stage.record(sent, 0)
    assert kinds(stage.wait())[0] == "KillWorker"
    assert stage.now == HUNG


# ---- ending one call


def test_a_call_that_is_asked_to_end_and_does_harms_no_other() -> None:
    stage = Crowded()
    sent = stage.many(3, timeout=1.0)
    stage.begin(sent, 2)
    stage.now = 0.5
    stage.begin(sent, 3)
    effects = stage.tick(1.0)
    assert [(ended.span, ended.call) for ended in effects if isinstance(ended, m.EndCall)] == [(1, 0), (1, 1)]
    stage.cut(sent, 1)
    stage.record(sent, 0)  # it was quicker
    assert stage.outcomes() == {0: "ok", 1: FaultKind.TIMEOUT}
    stage.tick(1.2)
    stage.record(sent, 2)
    stage.tick(1.0 + 2 * GRACE)
    assert not stage.all(m.KillWorker)


def test_a_call_that_does_not_obey_ends_with_its_worker_and_the_others_are_victims() -> None:
    stage = Crowded()
    sent = stage.many(3)
    stage.begin(sent, 2)
    stage.tell(m.CancelAsked(7, 1, 1, kill=True))
    assert kinds(stage.take_back(s1=2)) == ["EndCall", "Answer", "Send"]
    assert stage.answers() == {7: True}
    assert kinds(stage.tick(GRACE))[0] == "TakeBack"
    assert kinds(stage.take_back(s1=2, s2=0))[0] == "KillWorker"
    stage.tell(m.WorkerLost(1, 1, "killed"), m.WorkerReady(2))
    assert stage.faults() == {0: (FaultKind.COLLATERAL, 1), 1: (FaultKind.KILLED, 1)}
    assert stage.all(m.Send)[-1].first == 2


def test_threads_are_ended_with_their_worker_at_once() -> None:
    stage = Crowded(can_end_calls=False)
    sent = stage.many(2, timeout=1.0)
    stage.begin(sent, 1)
    stage.now = 0.01
    stage.begin(sent, 2)
    assert kinds(stage.tick(1.0)) == ["TakeBack"]
    assert kinds(stage.take_back(s1=2))[0] == "KillWorker"
    stage.tell(m.WorkerLost(1, 1, "killed"))
    assert stage.faults() == {0: (FaultKind.TIMEOUT, 1), 1: (FaultKind.COLLATERAL, 1)}


def test_a_call_that_ends_before_its_worker_does_leaves_only_victims() -> None:
    stage = Crowded(can_end_calls=False)
    sent = stage.many(2, timeout=1.0)
    stage.begin(sent, 1)
    stage.now = 0.01
    stage.begin(sent, 2)
    stage.tick(1.0)
    stage.take_back(s1=2)
    stage.record(sent, 0)  # the kill is on its way
    stage.tell(m.WorkerLost(1, 1, "killed"))
    assert stage.faults() == {1: (FaultKind.COLLATERAL, 1)}


def test_a_worker_is_not_ended_for_a_call_that_has_just_ended_while_another_has_its_grace() -> None:
    stage = Crowded()
    sent = stage.many(2)
    stage.begin(sent, 2)
    stage.tell(m.CancelAsked(1, 1, 0, kill=True), m.TakenBack(1, {1: 2}))
    stage.now = 0.5
    stage.tell(m.CancelAsked(2, 1, 1, kill=True), m.TakenBack(1, {1: 2}))
    stage.tick(GRACE)
    stage.cut(sent, 0)  # read by the one who takes back
    stage.take_back(s1=2)
    assert not stage.all(m.KillWorker)
    stage.tick(0.5 + GRACE)
    stage.take_back(s1=2)
    assert len(stage.all(m.KillWorker)) == 1


def test_a_kill_of_a_call_that_may_be_about_to_begin_is_answered_by_yes() -> None:
    stage = Crowded()
    sent = stage.many(1)
    stage.tell(m.CancelAsked(1, 1, 0, kill=True))
    stage.take_back(s1=1)  # it may be what the worker loads
    assert stage.answers() == {1: True}
    stage.end(sent, 0)  # it has not begun after all
    assert stage.outcomes() == {0: FaultKind.KILLED}


def test_what_was_asked_to_end_and_had_not_begun_condemns_nobody() -> None:
    stage = Crowded()
    sent = stage.many(1)
    stage.tell(m.CancelAsked(1, 1, 0, kill=True))
    stage.take_back(s1=1)
    stage.end(sent, 0)
    assert stage.scheduler.fleet.workers[1].asked == {}


def test_a_killed_call_is_not_retried() -> None:
    stage = Crowded()
    sent = stage.many(1, retries=3)
    stage.begin(sent, 1)
    stage.tell(m.CancelAsked(1, 1, 0, kill=True))
    stage.take_back(s1=1)
    stage.cut(sent, 0)
    assert stage.outcomes() == {0: FaultKind.KILLED}


def test_a_call_that_ran_out_of_time_is_retried() -> None:
    stage = Crowded()
    sent = stage.many(1, retries=1, timeout=1.0)
    stage.begin(sent, 1)
    stage.tick(1.0)
    stage.cut(sent, 0)
    stage.end(sent, 1)
    stage.tick(1.2)
    assert stage.outcomes() == {} and len(stage.all(m.Send)) == 2


def test_a_function_that_loads_for_ever_is_ended_by_the_time_out_of_its_first_call() -> None:
    stage = Crowded()
    sent = stage.many(3, timeout=1.0)
    stage.wait()
    stage.take_back(s1=1)
    stage.tick(1.0 + LOADING)
    assert kinds(stage.take_back(s1=1))[0] == "KillWorker"
    stage.tell(m.WorkerLost(1, sent.span, "killed"))
    assert stage.faults() == {0: (FaultKind.TIMEOUT, 1)}


def test_a_function_that_is_loaded_just_in_time_ends_nobody() -> None:
    stage = Crowded()
    sent = stage.many(1, timeout=1.0)
    stage.wait()
    stage.take_back(s1=1)
    stage.tick(1.0 + LOADING)
    stage.begin(sent, 1)  # read by the one who takes back
    stage.take_back(s1=1)
    assert not stage.all(m.KillWorker)


def test_a_span_that_nobody_took_up_is_not_what_a_worker_loads() -> None:
    stage = Crowded()
    first = stage.many(1)
    stage.many(1, 2, timeout=1.0)
    stage.tick(1.0 + LOADING)  # it has loaded the first all the time, which may take as long as it likes
    stage.take_back(**{f"s{first.span}": 1, f"s{first.span + 1}": 0})
    assert not stage.all(m.KillWorker)


# ---- who is to blame


def test_all_that_ran_are_suspects_of_a_death() -> None:
    stage = Crowded()
    sent = stage.many(4)
    stage.begin(sent, 3)
    stage.record(sent, 1)
    stage.tell(m.WorkerLost(1, sent.span, "gone"), m.WorkerReady(2))
    assert stage.faults() == {0: (FaultKind.DIED, 2), 2: (FaultKind.DIED, 2)}
    assert stage.all(m.Send)[-1].first == 3


def test_the_loading_of_a_function_is_a_suspect_among_others() -> None:
    stage = Crowded()
    stage.begin(stage.many(1), 1)
    second = stage.many(2, 2)
    stage.tell(m.WorkerLost(1, second.span, "gone"))
    assert stage.faults() == {0: (FaultKind.DIED, 2)}  # of both streams, the first call
    assert set(stage.outcomes(1)) == set(stage.outcomes(2)) == {0}


def test_a_function_that_was_loading_is_no_victim_when_another_call_ran_out_of_time() -> None:
    stage = Crowded(can_end_calls=False)
    stage.begin(stage.many(1, timeout=1.0), 1)
    second = stage.many(1, 2)
    stage.tick(1.0)
    stage.take_back(**{"s1": 1, f"s{second.span}": 1})
    stage.tell(m.WorkerLost(1, second.span, "killed"))
    assert stage.outcomes(1) == {0: FaultKind.TIMEOUT}
    assert stage.outcomes(2) == {}  # it had not begun, and waits again


def test_suspects_with_retries_run_again_one_by_one() -> None:
    stage = Crowded()
    sent = stage.many(2, retries=1)
    stage.begin(sent, 2)
    stage.tell(m.WorkerLost(1, sent.span, "gone"), m.WorkerReady(2))
    stage.tick(0.2)
    stage.many(1, 2)
    first = stage.all(m.Send)[-1]
    assert (first.stream, first.first, first.count) == (1, 0, 1)
    assert len(stage.all(m.Send)) == 2  # neither the other suspect nor the new call
    stage.begin(first, 1)
    stage.tell(m.WorkerLost(2, first.span, "gone"))
    assert stage.faults() == {0: (FaultKind.DIED, 1)}  # now it is known


def test_a_worker_is_kept_for_a_suspect_until_it_is_empty() -> None:
    stage = Crowded(places=2)
    sent = stage.many(2, retries=1)
    stage.begin(sent, 2)
    stage.tell(m.WorkerLost(1, sent.span, "gone"), m.WorkerReady(2))
    busy = stage.many(1, 2)
    stage.begin(busy, 1)
    stage.tick(0.2)
    stage.many(1, 3)
    assert stage.all(m.Send)[-1] is busy  # there is a place, and it is not given away
    stage.record(busy, 0)
    stage.end(busy, 1)
    assert stage.all(m.Send)[-1].stream == 1


def test_a_worker_is_not_kept_for_a_suspect_that_was_cancelled() -> None:
    stage = Crowded(places=2)
    sent = stage.many(2, retries=1)
    stage.begin(sent, 2)
    stage.tell(m.WorkerLost(1, sent.span, "gone"), m.WorkerReady(2))
    stage.begin(stage.many(1, 2), 1)
    stage.tick(0.2)
    stage.tell(m.CancelAsked(1, 1, 0), m.CancelAsked(2, 1, 1))
    assert stage.many(1, 3).stream == 3


def test_what_takes_too_much_memory_is_one_of_all_that_ran() -> None:
    stage = Crowded(memory_limit=1000)
    sent = stage.many(3)
    stage.begin(sent, 2)
    assert kinds(stage.tell(m.MemorySeen(1, 1001))) == ["TakeBack"]
    assert kinds(stage.take_back(s1=2))[0] == "KillWorker"
    stage.tell(m.WorkerLost(1, sent.span, "killed"))
    assert stage.faults() == {0: (FaultKind.MEMORY, 2), 1: (FaultKind.MEMORY, 2)}


def test_calls_that_no_worker_can_begin_are_given_up() -> None:
    """Each is ready, leaves by itself as soon as it is given some, and would be replaced for ever."""
    stage = Crowded()
    stage.many(3)
    for worker in range(1, FAILURES + 1):
        assert stage.scheduler.streams.running
        stage.tell(m.WorkerLost(worker, 0, "no module"))
        stage.tell(m.WorkerReady(worker + 1))
    assert stage.faults() == {0: (FaultKind.GAVE_UP, 1), 1: (FaultKind.GAVE_UP, 1), 2: (FaultKind.GAVE_UP, 1)}
    assert not stage.all(m.GiveUp)  # calls of another kind may run


def test_calls_that_were_taken_back_from_each_before_it_failed_are_given_up_too() -> None:
    """As where it takes long to find that no loop can be had."""
    stage = Crowded()
    stage.many(1)
    for worker in range(1, FAILURES + 1):
        assert stage.scheduler.streams.running
        assert kinds(stage.wait()) == ["TakeBack"]
        stage.tell(m.TakenBack(worker, {stage.all(m.Send)[-1].span: 0}), m.WorkerLost(worker, 0, "no module"))
        stage.tell(m.WorkerReady(worker + 1))
    assert stage.faults() == {0: (FaultKind.GAVE_UP, 1)}


def test_workers_that_are_killed_before_a_call_begins_are_replaced() -> None:
    """As by the kernel for memory: that need not be the calls' fault."""
    stage = Crowded()
    stage.many(3)
    for worker in range(1, FAILURES + 2):
        stage.tell(m.WorkerLost(worker, 0, "gone", killed=True))
        stage.tell(m.WorkerReady(worker + 1))
    assert stage.scheduler.streams.running and not stage.faults()


def test_a_call_that_waited_long_behind_another_has_its_whole_time() -> None:
    stage = Crowded(places=1)
    stage.scheduler.batching.learn("f", 1, 1e-3)  # so short that some are at hand
    first = stage.many(1)
    second = stage.many(1, 2, timeout=1.0)
    stage.begin(first, 1)
    stage.tell(m.Begun(1, second.span))  # it is loaded, and waits
    stage.now = LOADING + 0.5
    stage.record(first, 0)
    stage.end(first, 1)
    stage.begin(second, 1)
    stage.tick(LOADING + 1.0)  # so long after it was sent
    assert not stage.scheduler.fleet.workers[1].asked
    assert not stage.all(m.KillWorker)
    assert stage.scheduler.wake_at() == pytest.approx(LOADING + 1.5)


def test_when_memory_gets_short_what_waits_at_hand_is_taken_back() -> None:
    stage = Crowded(places=1)
    stage.scheduler.batching.learn("f", 1, 1e-3)
    stage.submit(1, 3, many=True)
    sent = stage.all(m.Send)[-1]
    stage.begin(sent, 1)
    assert stage.scheduler.fleet.workers[1].waiting
    assert kinds(stage.tell(m.MemoryShort(True))) == ["TakeBack"]
    stage.take_back(**{f"s{sent.span}": 1})
    assert stage.scheduler.fleet.workers[1].waiting == 0
    assert len(stage.all(m.Send)) == 1
    stage.record(sent, 0)
    stage.end(sent, 1)
    assert stage.all(m.Send)[-1].count == 1


def test_a_fault_among_many_is_told_with_its_input_and_how() -> None:
    stage = Crowded()
    sent = stage.many(4)
    stage.begin(sent, 3)
    stage.record(sent, 0)
    stage.tell(m.WorkerLost(1, sent.span, "killed by a test"))
    faults = [effect.outcome for effect in stage.all(m.Deliver) if isinstance(effect.outcome, Fault)]
    assert [(fault.first, [*fault.given], fault.how) for fault in faults] == [
        (1, [1], "killed by a test"),
        (2, [2], "killed by a test"),
    ]


def test_workers_that_are_ended_for_a_call_give_nothing_up() -> None:
    stage = Crowded()
    stage.submit(1, 20, many=True, timeout=1.0)
    stage.scheduler.streams.by_number[1].deaths = DEADLY - 1
    sent = stage.all(m.Send)[-1]
    stage.begin(sent, 2)
    stage.wait()
    for _ in range(9):
        worker = stage.scheduler.fleet.workers[1]
        if worker.being_taken_back:
            stage.take_back(**{f"s{sent.span}": 2})
        if worker.killed_for is not None:
            break
        stage.wait()
    assert worker.killed_for == FaultKind.TIMEOUT
    stage.tell(m.WorkerLost(1, sent.span, "killed", killed=True))
    assert stage.scheduler.streams.by_number[1].deaths == DEADLY - 1
    assert FaultKind.GAVE_UP not in stage.outcomes().values()


def test_a_death_of_many_counts_once_for_their_stream() -> None:
    stage = Crowded()
    sent = stage.many(10)
    stage.begin(sent, 10)
    stage.scheduler.streams.by_number[1].exhausted = False  # it stays
    stage.tell(m.WorkerLost(1, sent.span, "gone", killed=True))
    assert stage.scheduler.streams.by_number[1].deaths == 1


def test_a_thread_that_may_not_have_begun_a_killed_call_is_given_time_to_say_so() -> None:
    stage = Crowded(can_end_calls=False)
    first, second = stage.many(1), stage.many(1, 2)
    stage.begin(first, 1)
    stage.tell(m.CancelAsked(1, 2, 0, kill=True))
    stage.take_back(s1=1, s2=1)  # the second may be what it loads
    assert stage.answers() == {1: True}
    assert kinds(stage.end(second, 0)) == ["Deliver", "StreamEnded"]  # it has not begun after all
    assert stage.outcomes(2) == {0: FaultKind.KILLED}
    while (due := stage.scheduler.wake_at()) is not None:
        stage.tick(due)
    assert not stage.all(m.KillWorker), "the first has harmed nobody"
