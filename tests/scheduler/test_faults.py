"""What follows when something fails, is cancelled, dies, hangs or is too big; told by hand."""

from collections import Counter
from itertools import pairwise

import pytest

from procoro.calls import Fault, FaultKind, Piece
from procoro.scheduler import messages as m
from procoro.scheduler.backlog import Backlog
from procoro.scheduler.fleet import CALM_DEATHS
from procoro.scheduler.scheduler import DEADLY, HUNG, LOADING, LONG
from tests.scheduler.stage import Stage, kinds

pytestmark = pytest.mark.pure


# ---- deaths


def test_a_death_fails_only_the_call_that_ran() -> None:
    stage = Stage(2)
    sent = stage.sends(10)
    stage.record(sent, 0, 4)
    stage.tell(m.WorkerLost(1, sent.span, "gone"))
    assert stage.outcomes() == {0: "ok", 1: "ok", 2: "ok", 3: "ok", 4: FaultKind.DIED}
    again = stage.all(m.Send)[-1]
    assert (again.worker, again.first, again.count) == (2, 5, 5)
    assert len(stage.all(m.StartWorker)) == 3


def test_a_death_in_no_call_fails_none() -> None:
    stage = Stage(2)
    sent = stage.sends(10)
    stage.tell(m.WorkerLost(1, 0, "gone"))  # the span was not taken up
    assert stage.outcomes() == {}
    assert (stage.all(m.Send)[-1].worker, stage.all(m.Send)[-1].count) == (2, 10)
    assert sent.worker == 1


def test_a_death_is_told_with_its_input_its_attempt_and_how() -> None:
    stage = Stage(1)
    sent = stage.sends(3)
    stage.tell(m.WorkerLost(1, sent.span, "killed by a test"))
    (fault,) = [effect.outcome for effect in stage.all(m.Deliver)]
    assert isinstance(fault, Fault)
    assert (fault.first, [*fault.given], fault.attempt, fault.how) == (0, [0], 1, "killed by a test")


def test_a_function_that_kills_every_worker_is_given_up() -> None:
    stage = Stage(1)
    stage.submit(1, 2 * DEADLY)
    worker, deaths, started = 1, 0, 0.0
    while True:
        stage.tell(m.WorkerLost(worker, stage.all(m.Send)[-1].span, "gone", killed=True))
        deaths += 1
        if not stage.scheduler.streams.running:
            break
        while worker == stage.all(m.StartWorker)[-1].worker:
            stage.wait()
        worker = stage.all(m.StartWorker)[-1].worker
        started = stage.now
        stage.tell(m.WorkerReady(worker))
    assert deaths == DEADLY
    assert list(stage.outcomes().values()).count(FaultKind.DIED) == DEADLY
    assert list(stage.outcomes().values()).count(FaultKind.GAVE_UP) == DEADLY
    assert 5 < started < 15  # seconds: slowed down, and bounded
    assert not stage.all(m.GiveUp)  # others may still use the pool


def test_the_first_deaths_are_replaced_at_once() -> None:
    stage = Stage(1)
    for worker in range(1, CALM_DEATHS + 1):
        stage.tell(m.WorkerLost(worker, 0, "gone", killed=True))
        stage.tell(m.WorkerReady(worker + 1))
    assert stage.all(m.StartWorker)[-1].worker == CALM_DEATHS + 1
    stage.tell(m.WorkerLost(CALM_DEATHS + 1, 0, "gone", killed=True))
    assert stage.all(m.StartWorker)[-1].worker == CALM_DEATHS + 1
    assert stage.scheduler.wake_at() > 0


def test_a_pool_whose_workers_do_not_start_gives_up_once() -> None:
    stage = Stage(3, ready=False)
    stage.submit(1, 2)
    for worker in stage.workers:
        stage.tell(m.WorkerLost(worker, 0, "the initializer raised"))
    assert [effect.how for effect in stage.all(m.GiveUp)] == ["the initializer raised"]
    assert stage.outcomes() == {0: FaultKind.GAVE_UP, 1: FaultKind.GAVE_UP}
    assert len(stage.all(m.StartWorker)) == 3
    assert kinds(stage.submit(2)) == ["Deliver", "StreamEnded"]  # and who comes later hears it, too
    assert stage.outcomes(2) == {0: FaultKind.GAVE_UP}
    assert kinds(stage.tell(m.CloseAsked())) == ["Ended"]


def test_a_pool_with_one_worker_that_runs_does_not_give_up() -> None:
    stage = Stage(2, ready=False)
    stage.tell(m.WorkerReady(1))
    sent = stage.sends(2)
    for worker in range(2, 12):
        stage.tell(m.WorkerLost(worker, 0, "no memory"))
        while stage.all(m.StartWorker)[-1].worker == worker:
            stage.wait()
    assert not stage.all(m.GiveUp)
    stage.record(sent, 0, 2)
    assert stage.outcomes() == {0: "ok", 1: "ok"}


def test_workers_killed_while_they_start_are_bad_luck() -> None:
    stage = Stage(8, ready=False)
    for worker in stage.workers:
        stage.tell(m.WorkerLost(worker, 0, "kill -9", killed=True))
    assert not stage.all(m.GiveUp)
    stage.wait()
    assert len(stage.all(m.StartWorker)) == 16


# ---- retries


def test_a_retry_waits_longer_each_time() -> None:
    stage = Stage(1)
    stage.submit(1, retries=3)
    begun = []
    for _ in range(4):
        sent = stage.all(m.Send)[-1]
        begun.append(stage.now)
        stage.record(sent, 0, ok=False)
        stage.end(sent, 1)
        if not stage.outcomes():
            stage.wait()
    assert [round(later - earlier, 6) for earlier, later in pairwise(begun)] == [0.1, 0.2, 0.4]
    assert [effect.outcome.attempt for effect in stage.all(m.Deliver)] == [4]


def test_calls_that_wait_for_their_retry_keep_no_worker_idle() -> None:
    stage = Stage(1)
    stage.tell(m.Opened(1, 1, "f", retries=5, total=100))
    supplied = 0
    for _ in range(30):
        pulls = stage.all(m.Pull)
        if len(pulls) > supplied:
            stage.tell(m.Supplied(1, range(supplied, supplied + 1), 8))
            supplied += 1
        sent = stage.all(m.Send)[-1]
        stage.record(sent, 0, ok=False)
        stage.end(sent, 1)
    assert supplied == 30  # all of them are put off, and still more are pulled


def test_a_cancelled_retry_is_answered_and_does_not_run() -> None:
    stage = Stage(1)
    stage.submit(1, retries=1)
    sent = stage.all(m.Send)[-1]
    stage.record(sent, 0, ok=False)
    stage.end(sent, 1)
    stage.tell(m.CancelAsked(7, 1, 0))
    assert stage.answers() == {7: True}
    assert stage.outcomes() == {0: FaultKind.CANCELLED}
    assert stage.scheduler.wake_at() is None


# ---- time


def test_a_timeout_kills_only_after_what_stands_behind_was_taken_back() -> None:
    stage = Stage(2)
    sent = stage.sends(5, timeout=0.01)
    stage.tell(m.Begun(1, sent.span))
    assert stage.scheduler.wake_at() == pytest.approx(0.01)
    assert kinds(stage.wait()) == ["TakeBack"]
    effects = stage.tell(m.TakenBack(1, {sent.span: 1}))
    assert kinds(effects)[0] == "KillWorker"
    assert stage.all(m.Send)[-1].worker == 2 and stage.all(m.Send)[-1].count == 4
    stage.tell(m.WorkerLost(1, sent.span, "killed"))
    assert stage.outcomes() == {0: FaultKind.TIMEOUT}


def test_a_call_that_ends_at_the_last_moment_is_not_killed_for() -> None:
    stage = Stage(1)
    sent = stage.sends(5, timeout=0.01)
    stage.tell(m.Begun(1, sent.span))
    stage.wait()
    stage.record(sent, 0)  # read by the one who takes back
    stage.tell(m.TakenBack(1, {sent.span: 2}))
    assert not stage.all(m.KillWorker)
    assert stage.scheduler.wake_at() == pytest.approx(0.02)  # the next call's time has begun


def test_loading_a_function_is_not_counted_as_run_time() -> None:
    stage = Stage(1)
    sent = stage.sends(1, timeout=1.0)
    stage.wait()
    stage.tell(m.TakenBack(1, {sent.span: 1}))
    assert stage.scheduler.wake_at() == 1.0 + LOADING
    stage.now = 5.0
    stage.tell(m.Begun(1, sent.span))
    assert kinds(stage.wait()) == ["TakeBack"]
    assert stage.now == 6.0


def test_a_worker_that_does_not_take_up_what_it_was_sent_is_replaced_and_nobody_is_blamed() -> None:
    stage = Stage(1)
    sent = stage.sends(3)  # and the worker is stopped by SIGSTOP
    stage.wait()
    stage.tell(m.TakenBack(1, {sent.span: 0}))
    assert stage.now == LONG
    assert kinds(stage.wait()) == ["KillWorker", "StartWorker"]
    assert stage.now == pytest.approx(HUNG)
    stage.tell(m.WorkerLost(1, 0, "killed"), m.WorkerReady(2))
    assert stage.outcomes() == {}
    assert stage.all(m.Send)[-1].worker == 2


def test_what_stands_behind_a_long_call_is_taken_back() -> None:
    stage = Stage(2)
    sent = stage.sends(5)
    stage.record(sent, 0)
    assert kinds(stage.wait()) == ["TakeBack"]
    assert stage.now == LONG
    stage.tell(m.TakenBack(1, {sent.span: 2}))
    assert [(send.worker, send.first, send.count) for send in stage.all(m.Send)[1:]] == [(2, 2, 3)]


def test_a_single_call_that_is_not_taken_up_goes_to_another_worker() -> None:
    stage = Stage(2)
    sent = stage.sends(1)
    assert kinds(stage.wait()) == ["TakeBack"]
    stage.tell(m.TakenBack(1, {sent.span: 0}))
    assert stage.all(m.Send)[-1].worker == 2


def test_a_worker_in_a_long_call_gets_no_more() -> None:
    stage = Stage(1)
    sent = stage.sends(1)
    stage.tell(m.Begun(1, sent.span))
    stage.wait()
    stage.submit(2, 5)
    assert len(stage.all(m.Send)) == 1
    stage.record(sent, 0)
    stage.end(sent, 1)
    assert len(stage.all(m.Send)) > 1


# ---- cancel and kill


def test_cancel_of_a_call_that_waits() -> None:
    stage = Stage(1)
    stage.submit(1, 1)
    stage.submit(2, 5)
    assert kinds(stage.tell(m.CancelAsked(1, 2, 2))) == ["Deliver", "Answer"]
    assert stage.outcomes(2) == {2: FaultKind.CANCELLED}
    assert stage.answers() == {1: True}


def test_cancel_of_a_call_that_was_sent_and_has_not_begun() -> None:
    stage = Stage(1)
    sent = stage.sends(5)
    assert kinds(stage.tell(m.CancelAsked(1, 1, 3))) == ["TakeBack"]
    stage.tell(m.TakenBack(1, {sent.span: 1}))
    assert stage.answers() == {1: True}
    assert stage.outcomes() == {3: FaultKind.CANCELLED}


def test_cancel_of_a_call_that_runs_is_refused() -> None:
    stage = Stage(1)
    sent = stage.sends(5)
    stage.tell(m.CancelAsked(1, 1, 0), m.TakenBack(1, {sent.span: 1}))
    assert stage.answers() == {1: False}
    assert not stage.all(m.KillWorker)
    stage.record(sent, 0)
    assert stage.outcomes() == {0: "ok"}


def test_cancel_of_a_call_that_has_ended_is_refused() -> None:
    stage = Stage(1)
    stage.record(stage.sends(5), 0, 2)
    stage.tell(m.CancelAsked(1, 1, 1), m.CancelAsked(2, 99, 0))
    assert stage.answers() == {1: False, 2: False}


def test_kill_of_a_call_that_runs_frees_the_slot_and_hits_no_other() -> None:
    stage = Stage(1)
    sent = stage.sends(5, retries=3)
    stage.tell(m.CancelAsked(1, 1, 0, kill=True))
    effects = stage.tell(m.TakenBack(1, {sent.span: 1}))
    assert kinds(effects) == ["Answer", "KillWorker", "StartWorker"]
    stage.tell(m.WorkerLost(1, sent.span, "killed"), m.WorkerReady(2))
    assert stage.outcomes() == {0: FaultKind.KILLED}  # and is not retried
    assert stage.all(m.Send)[-1].first == 1 and stage.all(m.Send)[-1].count == 4


def test_a_killed_call_that_had_not_begun_after_all_does_not_run_again() -> None:
    stage = Stage(1)
    sent = stage.sends(5)
    stage.tell(m.CancelAsked(1, 1, 0, kill=True), m.TakenBack(1, {sent.span: 1}), m.SpanEnded(1, sent.span, 0, 0.0))
    assert stage.outcomes() == {0: FaultKind.KILLED}


def test_a_question_is_answered_when_the_worker_dies_first() -> None:
    stage = Stage(1)
    sent = stage.sends(5)
    stage.tell(m.CancelAsked(1, 1, 0), m.CancelAsked(2, 1, 3), m.WorkerLost(1, sent.span, "gone"))
    assert stage.answers() == {1: False, 2: True}
    assert stage.outcomes() == {0: FaultKind.DIED, 3: FaultKind.CANCELLED}


def test_a_question_is_answered_when_the_pool_is_terminated_first() -> None:
    stage = Stage(1)
    sent = stage.sends(5)
    stage.tell(m.CancelAsked(1, 1, 0), m.TerminateAsked(), m.TakenBack(1, {sent.span: 1}))
    assert stage.answers() == {1: False}


def test_nothing_is_sent_to_a_worker_while_its_calls_are_taken_back() -> None:
    stage = Stage(1)
    stage.record(first := stage.sends(1), 0)
    stage.end(first, 1)
    stage.submit(2, 1)  # a short function by now: a second packet would be at hand
    stage.tell(m.CancelAsked(1, 2, 0, kill=True))
    stage.submit(3, 1)
    assert len(stage.all(m.Send)) == 2


# ---- recycling and memory


def test_a_worker_is_recycled_after_its_calls() -> None:
    stage = Stage(1, most_calls=3)
    stage.submit(1, 10)
    ran = 0
    while stage.all(m.RetireWorker) == []:
        sent = stage.all(m.Send)[-1]
        stage.record(sent, 0, sent.count)
        stage.end(sent, sent.count)
        ran += sent.count
    assert ran == 3
    assert len(stage.all(m.StartWorker)) == 2


def test_the_call_that_exceeds_the_memory_limit_is_ended_by_name() -> None:
    stage = Stage(1, memory_limit=1000)
    sent = stage.sends(5)
    stage.record(sent, 0, 2)
    assert kinds(stage.tell(m.MemorySeen(1, 1000))) == []
    assert kinds(stage.tell(m.MemorySeen(1, 1001))) == ["TakeBack"]
    stage.tell(m.TakenBack(1, {sent.span: 3}), m.WorkerLost(1, sent.span, "killed"))
    assert stage.outcomes() == {0: "ok", 1: "ok", 2: FaultKind.MEMORY}


def test_an_idle_worker_that_holds_too_much_is_replaced() -> None:
    stage = Stage(1, memory_limit=1000)
    assert kinds(stage.tell(m.MemorySeen(1, 1001))) == ["RetireWorker", "StartWorker"]
    assert kinds(stage.tell(m.MemorySeen(1, 1001))) == []


def test_when_memory_is_short_one_always_runs_and_no_more() -> None:
    stage = Stage(3)
    stage.tell(m.MemoryShort(True))
    stage.submit(1, 9)
    for done in range(3):
        assert len(stage.all(m.Send)) == done + 1
        stage.record(sent := stage.all(m.Send)[-1], 0, sent.count)
        stage.end(sent, sent.count)
    stage.tell(m.MemoryShort(False))
    assert len({send.worker for send in stage.all(m.Send)[-3:]}) >= 2


# ---- bounds


def test_calls_that_fail_give_their_room_back() -> None:
    stage = Stage(1)
    stage.tell(m.Opened(1, 1, "f", window=True))
    worker = 1
    for number in range(100):  # 100 inputs of 1 MiB, each of them kills its worker
        assert stage.scheduler.streams.nbytes <= 16 << 20
        stage.tell(m.Supplied(1, [number], 1 << 20))
        stage.tell(m.WorkerLost(worker, stage.all(m.Send)[-1].span, "gone"))
        stage.tell(m.Consumed(1, 1, 0))
        while worker == stage.all(m.StartWorker)[-1].worker:
            stage.wait()
        worker = stage.all(m.StartWorker)[-1].worker
        stage.tell(m.WorkerReady(worker))
        if stage.all(m.StopPulling):
            break
    assert len(stage.outcomes()) == 100


def test_one_item_is_pulled_even_if_others_hold_all_the_bytes() -> None:
    stage = Stage(1)
    stage.tell(m.Opened(1, 1, "f", window=True))
    stage.tell(m.Supplied(1, [0], 64 << 20))
    stage.tell(m.Opened(2, 2, "f", window=True))
    pull = stage.all(m.Pull)[-1]
    assert (pull.stream, pull.count) == (2, 1)


def test_inputs_of_a_map_are_bounded_in_bytes_too() -> None:
    stage = Stage(1)
    stage.tell(m.Opened(1, 1, "f", total=10_000))
    pulled = 0
    for _ in range(100):
        pull = stage.all(m.Pull)[-1]
        if stage.scheduler.streams.by_number[1].asked:
            stage.tell(m.Supplied(1, [pulled], 4 << 20))
            pulled += 1
    assert pull.nbytes <= 16 << 20
    assert stage.scheduler.streams.by_number[1].open_nbytes <= 16 << 20


# ---- the end


def test_close_ends_when_all_calls_have_ended() -> None:
    stage = Stage(2)
    sent = stage.sends(2)
    assert kinds(stage.tell(m.CloseAsked())) == []
    stage.record(sent, 0, 2)
    assert kinds(stage.end(sent, 2)) == ["RetireWorker"]
    assert {effect.worker for effect in stage.all(m.RetireWorker)} == {1, 2}
    stage.tell(m.WorkerLost(1, sent.span, "left"))
    assert kinds(stage.tell(m.WorkerLost(2, 0, "left"))) == ["Ended"]


def test_close_of_a_pool_that_is_still_starting_gives_nothing_up() -> None:
    stage = Stage(4, ready=False)
    assert kinds(stage.tell(m.CloseAsked())) == ["KillWorker"] * 4
    for worker in stage.workers:
        stage.tell(m.WorkerLost(worker, 0, "killed"))
    assert not stage.all(m.GiveUp)
    assert kinds(stage.effects[-1:]) == ["Ended"]


def test_close_does_not_wait_for_a_consumer_nor_start_workers_for_it() -> None:
    stage = Stage(1)
    sent = stage.sends(2, window=True)
    stage.record(sent, 0, 2)
    stage.end(sent, 2)
    stage.tell(m.CloseAsked(), m.WorkerLost(1, sent.span, "left"))
    assert kinds(stage.effects[-1:]) == ["Ended"]
    assert len(stage.all(m.StartWorker)) == 1


def test_terminate_ends_every_call_and_every_worker() -> None:
    stage = Stage(2)
    sent = stage.sends(5)
    stage.submit(2, 3)
    stage.record(sent, 0)
    stage.tell(m.TerminateAsked())
    assert stage.outcomes() == {0: "ok"} | dict.fromkeys(range(1, 5), FaultKind.TERMINATED)
    assert stage.outcomes(2) == dict.fromkeys(range(3), FaultKind.TERMINATED)
    assert {effect.worker for effect in stage.all(m.KillWorker)} == {1, 2}
    assert stage.record(sent, 1) == []  # it was a moment too late
    stage.tell(m.WorkerLost(1, sent.span, "killed"))
    assert kinds(stage.tell(m.WorkerLost(2, 0, "killed"))) == ["Ended"]
    assert stage.tell(m.Tick(), m.TerminateAsked(), m.CloseAsked()) == []


def test_a_stream_that_is_dropped_ends_with_what_runs() -> None:
    stage = Stage(1)
    sent = stage.sends(5)
    stage.tell(m.DrainAsked(1, drop=True), m.TakenBack(1, {sent.span: 1}))
    assert stage.outcomes() == dict.fromkeys(range(1, 5), FaultKind.CANCELLED)
    stage.record(sent, 0)
    assert stage.outcomes()[0] == "ok"
    assert stage.all(m.StreamEnded)


def test_outcomes_of_an_ordered_stream_wait_for_those_before_them() -> None:
    stage = Stage(2)
    stage.tell(m.Opened(1, 1, "f", ordered=True, chunk=2))
    stage.tell(m.Supplied(1, range(4), 32), m.Exhausted(1))
    first, second = stage.all(m.Send)
    stage.record(second, 0, 2)
    assert stage.outcomes() == {}
    stage.record(first, 0, 2)
    assert list(stage.outcomes()) == [0, 1, 2, 3]


def test_a_stream_that_has_ended_leaves_nothing_behind() -> None:
    stage = Stage(1)
    for stream in range(1, 4):
        stage.tell(m.Opened(stream, 1 + stream % 2, "f", items=range(1), nbytes=8))
    for place in range(3):
        sent = stage.all(m.Send)[place]
        stage.record(sent, 0)
        stage.end(sent, 1)
    backlog, streams = stage.scheduler.backlog, stage.scheduler.streams
    assert not streams.by_number
    assert not (backlog.lanes or backlog.waiting or backlog._lane_of)


def test_of_a_retry_that_went_well_nothing_is_kept() -> None:
    stage = Stage(1)
    stage.tell(m.Opened(1, 1, "f", retries=1))
    stage.tell(m.Supplied(1, range(1), 8))
    for ok in (False, True):
        sent = stage.all(m.Send)[-1]
        stage.record(sent, 0, ok=ok)
        stage.end(sent, 1)
        if not ok:
            stage.wait()
    assert stage.outcomes() == {0: "ok"}
    assert not stage.scheduler.streams.by_number[1].attempts


def _replace(stage: Stage) -> int:
    """The next worker is started and gets ready; its number."""
    known = stage.scheduler.fleet.workers
    while not known:
        stage.wait()
    (worker,) = known
    stage.tell(m.WorkerReady(worker))
    return worker


def test_a_retry_waits_30_seconds_at_most() -> None:
    stage = Stage(1)
    stage.submit(1, retries=12)
    waits = []
    for _ in range(12):
        sent = stage.all(m.Send)[-1]
        stage.record(sent, 0, ok=False)
        stage.end(sent, 1)
        before = stage.now
        stage.wait()
        waits.append(stage.now - before)
    assert waits[8:] == pytest.approx([25.6, 30.0, 30.0, 30.0])


def test_deaths_with_outcomes_between_them_give_nothing_up() -> None:
    stage = Stage(1)
    stage.submit(1, 2 * DEADLY + 2)
    for _ in range(DEADLY + 1):
        stage.tell(m.WorkerLost(stage.all(m.Send)[-1].worker, stage.all(m.Send)[-1].span, "gone", killed=True))
        _replace(stage)
        sent = stage.all(m.Send)[-1]
        stage.record(sent, 0)
        stage.end(sent, 1)
    assert stage.now == 0.0, "each worker is replaced at once"
    kinds_of_end = Counter(stage.outcomes().values())
    assert kinds_of_end == {FaultKind.DIED: DEADLY + 1, "ok": DEADLY + 1}


def test_time_outs_one_after_another_are_no_reason_to_give_up() -> None:
    stage = Stage(1)
    stage.submit(1, DEADLY + 1, timeout=1.0)
    for _ in range(DEADLY + 1):
        sent = stage.all(m.Send)[-1]
        stage.tell(m.Begun(sent.worker, sent.span))
        while not stage.scheduler.fleet.workers[sent.worker].being_taken_back:
            stage.wait()
        stage.tell(m.TakenBack(sent.worker, {sent.span: 1}))
        while stage.scheduler.fleet.workers[sent.worker].killed_for is None:
            stage.wait()
            if stage.scheduler.fleet.workers[sent.worker].being_taken_back:
                stage.tell(m.TakenBack(sent.worker, {sent.span: 1}))
        stage.tell(m.WorkerLost(sent.worker, sent.span, "killed", killed=True))
        _replace(stage)
    assert set(stage.outcomes().values()) == {FaultKind.TIMEOUT}


def test_one_worker_that_gets_ready_makes_up_for_those_that_did_not() -> None:
    stage = Stage(1, ready=False)
    for worker in (1, 2):
        stage.tell(m.WorkerLost(worker, 0, "the initializer raised"))
        stage.wait()
    stage.tell(m.WorkerReady(3), m.WorkerLost(3, 0, "kill -9", killed=True))
    stage.tell(m.WorkerLost(4, 0, "the initializer raised"))
    assert not stage.all(m.GiveUp)


def test_a_worker_that_does_not_get_ready_in_time_is_killed_and_the_pool_gives_up() -> None:
    stage = Stage(1, ready=False, start_timeout=10)
    stage.submit(1)
    assert stage.scheduler.wake_at() == 10
    assert kinds(stage.tick(9.9)) == []
    assert kinds(stage.tick(10.0))[0] == "KillWorker"
    stage.tell(m.WorkerLost(1, 0, "killed", killed=True), m.WorkerLost(2, 0, "killed", killed=True))
    assert len(stage.all(m.GiveUp)) == 1
    assert stage.outcomes() == {0: FaultKind.GAVE_UP}


def test_who_has_left_its_share_of_the_window_leaves_it_to_the_others() -> None:
    stage = Stage(1)
    for stream, leave in (
        (1, m.Detached(1)),
        (2, m.DrainAsked(2)),
        (3, m.DrainAsked(3, drop=True)),
        (4, m.Exhausted(4)),
    ):
        stage.tell(m.Opened(stream, stream, "f", window=True), leave)
    stage.tell(m.Detached(2))  # twice
    assert stage.scheduler.streams.generators.sharers == 0
    stage.tell(m.Opened(5, 5, "f", window=True), m.Unbounded())
    assert stage.scheduler.streams.generators.sharers == 0


def test_a_retry_comes_when_it_is_due_also_if_others_were_dropped() -> None:
    backlog = Backlog()
    for stream in (1, 2):
        backlog.open(stream, stream)
    for place, (stream, until) in enumerate(((1, 0), (2, 10), (1, 1), (2, 11), (2, 12), (2, 2), (2, 3))):
        backlog.put_off(Piece(stream, place, [b""], 0, 1, 1.0), until)
    backlog.remove_all(1)
    assert backlog.next_due() == 2
    assert [piece.first for piece in backlog.due(10)] == [5, 6, 1]
    for number, until in enumerate((20, 30, 21, 31, 32, 22, 23), 100):
        backlog.put_off(Piece(2, number, [b""], 0, 1, 1.0), until)
    backlog.remove_later(2, 3)  # it was due at 11
    backlog.remove_later(2, 4)
    backlog.remove_later(2, 100)
    assert backlog.next_due() == 21


def test_a_stream_that_is_dropped_is_taken_back_from_the_workers_that_hold_it() -> None:
    stage = Stage(2)
    stage.sends(5)
    stage.submit(2, 1)
    assert [sent.worker for sent in stage.all(m.Send)] == [1, 2]
    (taken,) = [effect for effect in stage.tell(m.DrainAsked(1, drop=True)) if type(effect) is m.TakeBack]
    assert taken.worker == 1


def test_a_call_that_does_not_run_is_told_with_its_input_and_its_attempt() -> None:
    stage = Stage(1)
    stage.submit(1, 3, retries=1)
    sent = stage.all(m.Send)[-1]
    stage.record(sent, 0, ok=False)
    stage.end(sent, 1)
    stage.tell(m.TerminateAsked())
    faults = [effect.outcome for effect in stage.all(m.Deliver) if isinstance(effect.outcome, Fault)]
    assert [(fault.first, [*fault.given], fault.attempt) for fault in faults] == [(0, [0], 2), (1, [1], 1), (2, [2], 1)]


def test_the_call_that_runs_is_the_first_without_an_outcome_once_its_function_is_loaded() -> None:
    stage = Stage(1)
    sent = stage.sends(3)
    assert not stage.scheduler.is_running(1, 0)
    stage.tell(m.Begun(1, sent.span))
    assert [stage.scheduler.is_running(1, number) for number in range(3)] == [True, False, False]
    stage.record(sent, 0)
    assert [stage.scheduler.is_running(1, number) for number in range(3)] == [False, True, False]


def test_of_a_killed_call_nothing_is_kept() -> None:
    stage = Stage(1)
    stage.tell(m.Opened(1, 1, "f"))
    stage.tell(m.Supplied(1, range(1), 8))
    sent = stage.all(m.Send)[-1]
    stage.tell(m.CancelAsked(1, 1, 0, kill=True), m.TakenBack(1, {sent.span: 1}), m.WorkerLost(1, sent.span, "killed"))
    assert stage.outcomes() == {0: FaultKind.KILLED}
    assert not stage.scheduler.streams.by_number[1].killed


def test_a_call_is_not_late_any_more_when_its_worker_is_dead() -> None:
    """The parent and the template may have been stopped: the death is seen, and how it came is heard a second later."""
    stage = Stage(2)
    sent = stage.sends(3, timeout=1.0)
    stage.tell(m.Begun(1, sent.span))
    stage.now = 0.9
    stage.tell(m.WorkerDead(1))
    stage.tick(5.0)
    assert stage.all(m.TakeBack)  # what stands behind it waits for nobody
    stage.tell(m.TakenBack(1, {sent.span: 1}))
    assert not stage.all(m.KillWorker)
    assert [again.worker for again in stage.all(m.Send)[1:]] == [2]
    stage.tell(m.WorkerLost(1, sent.span, "kill -9", killed=True))
    assert stage.outcomes() == {0: FaultKind.DIED}
