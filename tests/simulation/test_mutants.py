"""The simulator sees what it is there to see: each of these faults, put into the scheduler's source, turns it red."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest

import procoro.scheduler
from procoro.scheduler.scheduler import Scheduler
from tests.simulation.world import World

pytestmark = pytest.mark.pure

SEEDS = 1000
HOUSE = Path(procoro.scheduler.__file__).parent
ROOMS = ("backlog", "batching", "spans", "fleet", "streams", "crowds", "scheduler")  # each imports only those before it

# What is broken, where, the line as it is, and as it would be.
MUTANTS = [
    ("a lost requeue", "scheduler", "self.streams.wait(piece)", "pass"),
    ("a lost retry", "streams", "for piece in self.backlog.due(now):", "for piece in ():"),
    (
        "a stream that ends short in silence",
        "streams",
        "self.stop_pulling(stream, ending)",
        "self.stop_pulling(stream)",
    ),
    ("calls that nobody cancels", "scheduler", "if event.cancel:", "if False:"),
    ("a double delivery", "streams", "self._do(Deliver(stream.opened.stream, ready))", "\\g<0>; \\g<0>"),
    ("a culprit that also waits again", "scheduler", "sent.recorded + started)", "sent.recorded)"),
    (
        "a wrong blame: the next call",
        "scheduler",
        "cut(sent.recorded, sent.recorded + 1)",
        "cut(sent.recorded + 1, sent.recorded + 2)",
    ),
    (
        "no blame: the culprit runs again",
        "scheduler",
        "started = sent.number == event.begun and",
        "started = False and",
    ),
    ("blame for a span that was not begun", "scheduler", "started = sent.number == event.begun and", "started ="),
    ("a forgotten deadline", "scheduler", "if (deadline := self._deadline(worker, current)) is not None:", "if False:"),
    ("a deadline too early", "scheduler", "worker.since + timeout +", "worker.since + timeout / 2 +"),
    ("a deadline for the dead", "scheduler", "timeout is None or worker.dead", "timeout is None"),
    ("a span sent to the dead", "fleet", "or worker.dead or", "or"),
    (
        "a forgotten TakeBack before a kill",
        "scheduler",
        "kind)\n            self._take_back(worker)",
        "kind)\n            self._kill(worker, kind)",
    ),
    (
        "one call too many is taken back",
        "scheduler",
        "max(event.limits.get(sent.number, sent.limit), begun)",
        "begun",
    ),
    ("a span sent while calls are taken back", "fleet", "or worker.being_taken_back", ""),
    (
        "a span sent to a worker that is to die",
        "scheduler",
        "worker.killed_for = kind\n            self.fleet.dismiss(worker)",
        "worker.killed_for = kind",
    ),
    (
        "a span sent to a worker that is to leave",
        "fleet",
        "not (worker.leaving or",
        "not (worker.killed_for is not None or",
    ),
    ("a refused call that counts as running", "scheduler", "self._unsend(worker, sent, event.begun)", "pass"),
    ("a third span", "fleet", "len(worker.spans) == depth", "True"),
    ("a worker that stays stuck", "scheduler", "worker.stuck = False", "pass"),
    ("an unbounded pull", "streams", "items = min(self._most(stream, window) - window.items,", "items = max(100,"),
    ("a lazy input pulled too far", "streams", "self.generators = Window(1)", "self.generators = Window(FURTHER)"),
    ("outcomes that take all memory", "streams", "return stream.unread() > kept or", "return False and"),
    ("outcomes that nobody takes", "streams", "return stream.unread() > kept or", "return True or"),
    ("outcomes that nobody can take", "streams", "return stream.unread() > kept or", "return stream.unread() > 0 or"),
    (
        "an unbounded pull of bytes",
        "streams",
        "nbytes = int(self.most_nbytes - self.nbytes) // 2",
        "nbytes = self.most_nbytes",
    ),
    ("consumed outcomes keep their room", "streams", "self._count(stream, -event.count, -event.nbytes)", "pass"),
    ("failed calls keep their room", "streams", "self._count(stream, 0, outcome.nbytes - nbytes)", "pass"),
    ("an order mix-up", "streams", "if not self.opened.ordered:", "if True:"),
    ("an attempt not counted", "streams", "stream.attempts\\[number\\] = attempt$", "pass"),
    ("a retry that was not asked for", "streams", "attempt <= stream.opened.retries", "attempt <= 1"),
    ("a retry at once", "streams", "now \\+ min\\(BACK_OFF \\* 2 \\*\\* \\(attempt - 1\\), LONGEST_BACK_OFF\\)", "now"),
    ("a killed call runs again", "streams", "elif piece.first in stream.killed:", "elif False:"),
    ("a forgotten restart", "scheduler", "if self.fleet.missing:", "if False:"),
    ("a restart too many", "fleet", "self.missing += not worker.leaving", "self.missing += 1"),
    ("a fork storm", "fleet", "return self.start_failures >= START_FAILURES and", "return False and"),
    ("a worker that is never recycled", "scheduler", "worker.calls += piece.count", "pass"),
    ("a ticket without an answer", "scheduler", "for question in worker.questions:", "for question in ():"),
    (
        "cancelled, and run all the same",
        "streams",
        "piece = self.backlog.remove(stream, number)",
        "\\g<0>; piece and self.backlog.put(piece)",
    ),
    (
        "short of memory, and everybody runs",
        "scheduler",
        "waits_for_room = self.short and self.busy()",
        "waits_for_room = False",
    ),
    (
        "short of memory, and nobody runs",
        "scheduler",
        "waits_for_room = self.short and self.busy()",
        "waits_for_room = self.short",
    ),
    (
        "a stream that does not end",
        "streams",
        "self._close(stream)\n\n    def on_consumed",
        "pass\n\n    def on_consumed",
    ),
    ("a terminated pool that lets workers live", "scheduler", "self._kill(worker, ending.kind)", "pass"),
    ("a pool that ends twice", "scheduler", "if self.streams.running or self.ended:", "if self.streams.running:"),
    ("a pool that ends too early", "scheduler", "if not self.fleet.workers:", "if True:"),
    ("wake-ups without end", "scheduler", "worker.stuck = True\n            return", "return"),
]

# The same, where calls run beside each other.
MUTANTS_OF_MANY = [
    ("a suspect not blamed", "crowds", "for at in crowd.running()]", "for at in crowd.running()[1:]]"),
    (
        "a victim that is blamed",
        "crowds",
        "FaultKind.COLLATERAL if for_one else worker.killed_for",
        "worker.killed_for",
    ),
    ("one suspect is as good as guilty", "crowds", "fault.among = len(ended)", "pass"),
    ("nobody is blamed for loading", "crowds", "if loading and (", "if False and ("),
    (
        "a deadline forgotten among many",
        "crowds",
        "self._expect(now + timeout, worker, crowd, crowd.begun, begun, TIMED_OUT)",
        "pass",
    ),
    ("a deadline for the dead among many", "crowds", "Crowd) or worker.dead or", "Crowd) or"),
    ("a deadline too early among many", "crowds", "now + timeout, worker", "now + timeout / 2, worker"),
    ("no grace", "crowds", "now + GRACE", "now"),
    ("grace without end", "crowds", "if what == OVERDUE and (", "if False and ("),
    ("a call asked twice to end", "crowds", "if (crowd.number, at) in worker.asked:", "if False:"),
    ("a function that loads for ever", "crowds", "if not crowd.loaded and crowd.limit:", "if False:"),
    (
        "no take-back before the end of many",
        "scheduler",
        "self.crowds.want_kill(worker, FaultKind.MEMORY)",
        "self._kill(worker, FaultKind.MEMORY)",
    ),
    ("a kill that hits nobody", "scheduler", "and crowd.is_open(at):", "and crowd.is_running(at):"),
    ("a killed call is retried", "streams", "and number not in stream.killed:", ":"),
    (
        "a call that has begun is taken back",
        "scheduler",
        "max(event.limits.get(sent.number, sent.limit), begun)",
        "max(event.limits.get(sent.number, sent.limit) - sent.many, sent.recorded)",
    ),
    ("a call that had ended waits again", "scheduler", "max(crowd.begun, *(", "max(crowd.recorded, *("),
    ("outcomes ahead forgotten", "spans", "self.ahead.update(range(at, at + count))", "pass"),
    ("loaded is taken for begun", "crowds", "if event.calls:", "if True:"),
    ("spans before it not seen to begin", "crowds", "if before:", "if crowd.begun:"),
    ("calls that could not be sent wait on", "crowds", "self._begin(worker, crowd, at + run.count, now)", "pass"),
    ("room beyond the places", "crowds", "self.places + ahead - worker.held", "self.places + ahead"),
    ("held not lowered", "crowds", "worker.held -= run.count", "pass"),
    ("waiting not lowered", "crowds", "worker.waiting -= begun - crowd.begun", "pass"),
    ("many beside one", "crowds", "self.fleet.reserved or not worker.many)", "self.fleet.reserved)"),
    ("one beside many", "fleet", "(worker.many or worker is self.reserved)", "(worker is self.reserved)"),
    ("a suspect among others", "crowds", "(apart or worker.apart or worker is", "(worker.apart or worker is"),
    ("company for a suspect", "crowds", "(apart or worker.apart or worker is", "(apart or worker is"),
    ("suspects forgotten", "streams", "stream.apart.add(number)", "pass"),
    ("no worker is kept for a suspect", "crowds", "self.fleet.reserved = min(", "min("),
    ("a worker kept for nobody", "scheduler", "self.fleet.reserved = None", "pass"),
    ("a blocked loop keeps what waits", "scheduler", "worker.held - worker.waiting < self.crowds.places:", "False:"),
    (
        "a full worker keeps what another could run",
        "scheduler",
        "self.backlog.next_lane() is None and self.crowds.has_a_place()",
        "False",
    ),
    ("the fullest worker first", "crowds", "worker.held < best.held", "worker.held > best.held"),
    ("stuck for ever", "crowds", "worker.stuck = False  #", "pass  #"),
    ("many wait behind one", "scheduler", "return self.has_many and", "return False and"),
    ("short of memory, and many run", "scheduler", "1 if self.short else size", "size"),
]
ALL = MUTANTS + MUTANTS_OF_MANY


def broken(room: str, line: str, instead: str) -> type[Scheduler]:
    """The scheduler with this one line changed. The line must be there, once: else the mutant proves nothing."""
    modules: dict[str, ModuleType] = {}
    with patch.dict(sys.modules):
        for name in ROOMS:
            source = (HOUSE / f"{name}.py").read_text()
            if name == room:
                source = _change(source, line, instead)
            module = modules[name] = ModuleType(f"procoro.scheduler.{name}")
            sys.modules[module.__name__] = module
            exec(compile(source, f"{name}.py (broken)", "exec"), module.__dict__)
    scheduler: type[Scheduler] = modules["scheduler"].Scheduler
    return scheduler


def _change(source: str, line: str, instead: str) -> str:
    pattern = line if "\\" in line or line.endswith("$") else re.escape(line)
    changed, times = re.subn(pattern, instead, source, flags=re.MULTILINE)
    assert times == 1, f"{line!r} stands there {times} times"
    return changed


@pytest.mark.parametrize("room, line, instead", [m[1:] for m in ALL], ids=[m[0] for m in ALL])
def test_a_fault_in_the_scheduler_is_seen(room: str, line: str, instead: str) -> None:
    scheduler = broken(room, line, instead)
    for seed in range(SEEDS):
        try:
            World(seed, scheduler).play()
        except (NameError, TypeError, AttributeError):
            raise  # the mutant is no program
        except Exception:  # whatever it is: in the right scheduler there is none
            return
    pytest.fail(f"{SEEDS} worlds do not see it")


def test_the_scheduler_as_it_is_passes_the_same_worlds() -> None:
    assert import_module("procoro.scheduler.scheduler").Scheduler is Scheduler
    for seed in range(50):
        World(seed, broken("scheduler", "LONG = 0.05 ", "LONG = 0.05 ")).play()
