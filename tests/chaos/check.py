"""The truth: what must hold of every call, whatever the users and the world have done."""

import os
import signal
from collections import Counter, defaultdict
from typing import Any

from procoro import errors
from tests.chaos.books import Books, Call
from tests.chaos.kinds import MEMORY, TIMEOUT
from tests.chaos.notes import LOADED, START, Note
from tests.chaos.world import World

BY_DESIGN = {  # how a call may end that was asked to, or whose pool was ended
    "CancelledError": "cancelled",
    "CallKilled": "killed",
    "PoolTerminated": "terminated",
}


CROWDED = 4  # times the load that the machine can bear: then an innocent may be late


class Check:
    """Judges one seed."""

    def __init__(self, books: Books, world: World, notes: list[Note], printed: str) -> None:
        self.books = books
        self.world = world
        self.printed = Counter(printed[1:-1].split("]["))
        self.starts: dict[int, list[int]] = defaultdict(list)  # pids, by call
        self.begun_in: dict[int, list[int]] = defaultdict(list)  # calls, by pid
        self.died_in: dict[int, list[Call]] = defaultdict(list)  # calls that ended with their worker, by pid
        for one in notes:
            if one.what in (START, LOADED):
                self.starts[one.number].append(one.pid)
                self.begun_in[one.pid].append(one.number)
        self.never_begun: list[Call] = []  # of maps that raised what another call had raised
        self.crowded = os.getloadavg()[0] > CROWDED * (os.cpu_count() or 1)

    def all(self) -> dict[str, int]:
        """Find all that is wrong, and count what was seen."""
        for number in self.starts.keys() - self.books.calls.keys():
            self.books.wrong(f"call {number} begins, and there is none")
        ends: Counter[str] = Counter()
        for call in self.books.calls.values():
            self._check(call)
            ends.update(_name(*ending) for ending in call.endings)
            if not call.endings:
                ends["unseen"] += 1
        self._check_blame()
        self._check_recycling()
        for told, ok, words in self.books.expected:
            self.books.require(told == [ok], f"{words}: its callbacks were told {told}")
        self.books.require(
            Counter(self.books.closings)["opened"] == Counter(self.books.closings)["closed"],
            "iterators were not closed",
        )
        figures = {"calls": len(self.books.calls), "workers": len(self.begun_in), **self.world.figures()}
        return figures | dict(sorted(ends.items()))

    def _wrong(self, call: Call, words: str) -> None:
        starts = self.starts[call.number]
        self.books.wrong(
            f"{call!r}: {words} (begun in {starts}, retries {call.retries}, may also be {call.may or '-'})"
        )

    def _check(self, call: Call) -> None:
        begun, most = len(self.starts[call.number]), 1 + call.retries
        if begun > most:
            self._wrong(call, "begun too often")
        if "dropped" in call.may and not call.endings:
            if begun:
                self._wrong(call, "was dropped, and begins")
        elif len(call.endings) > 1:
            self._wrong(call, f"ended {len(call.endings)} times: {call.endings!r:.300}")
        elif not call.endings:
            if "unseen" not in call.may:
                self._wrong(call, "has no end")
            if call.may == {"unseen", "mapped"} and not begun and not call.kind.form:
                self.never_begun.append(call)
        else:
            self._check_end(call, *call.endings[0])
        if call.told is not None and call.may != {"dropped"} and call.told != [ok for ok, _ in call.endings]:
            self._wrong(call, f"ended {call.endings!r:.100}, its callbacks were told {call.told}")

    def _check_end(self, call: Call, ok: bool, outcome: Any) -> None:
        begun = len(self.starts[call.number])
        told = None if ok else errors.failed_call(outcome)
        if told is not None:
            if not begun <= told.attempt <= 1 + call.retries:
                self._wrong(call, f"attempt {told.attempt}: {outcome!r}")
            if call.place is not None and told.number != call.place:
                self._wrong(call, f"is told to be number {told.number}")
            if type(call.given) is int and told.input not in ("...", "None") and str(call.given) not in told.input:
                self._wrong(call, f"is told to have the input {told.input}")
        if ok and call.is_cancelled:
            self._wrong(call, "was cancelled, and has a value")
        if self._is_its_own(call, ok, outcome):
            if not begun and not call.kind.form:
                self._wrong(call, f"never begun, and ends with {outcome!r:.200}")
            if call.kind.name == "prints" and ok and not self.printed[str(call.number)]:
                self._wrong(call, "what it printed is not there")
            if ok and self.printed[str(call.number)] > begun:
                self._wrong(call, "what it printed is there twice")
        elif ok:
            self._wrong(call, f"has the value {outcome!r:.300}")
        elif not (self._is_by_its_worker(call, outcome) or self._is_by_others(call, outcome)):
            self._wrong(call, f"ends with {_name(ok, outcome)}: {outcome!r:.300}")

    def _is_its_own(self, call: Call, ok: bool, outcome: Any) -> bool:
        try:
            return call.kind.may_end(call.number, ok, outcome)
        except BaseException as error:
            self._wrong(call, f"{outcome!r:.200} cannot be checked: {error!r}")
            return True

    def _is_by_others(self, call: Call, error: BaseException) -> bool:
        """It was cancelled, killed, ended with its pool; or a call before it did what cannot be helped."""
        if self._is_cut_off(call, error):
            return True
        how = BY_DESIGN.get(type(error).__name__)
        if how == "cancelled" and not call.retries and self.starts[call.number]:
            self._wrong(call, "is cancelled, and was begun")
        return how in call.may

    def _is_cut_off(self, call: Call, error: BaseException) -> bool:
        """A call before it had closed the descriptors of their worker: its large result cannot be handed over."""
        if not isinstance(error, OSError) or "closed its worker's connection" not in str(error):
            return False
        before = self.begun_in[self.starts[call.number][-1]] if self.starts[call.number] else []
        kinds = [self.books.calls[number].kind.name for number in before[: before.index(call.number)]] if before else []
        return "closes_descriptors" in kinds

    def _is_by_its_worker(self, call: Call, error: BaseException) -> bool:
        """It was ended with its worker: for what it did, or because that was killed."""
        told = errors.failed_call(error)
        if isinstance(error, errors.WorkerDied):
            codes, pid = set(call.kind.codes), error.pid
            if pid in self.world.killed:
                codes.add(-signal.SIGKILL)
            if codes and self.world.templates_killed:
                codes.add(None)
            right = error.exitcode in codes and told is not None and told.pid == pid
        else:
            pid = told.pid if told is not None else 0
            need = {"CallTimeout": (TIMEOUT, MEMORY), "MemoryLimitExceeded": (MEMORY,)}.get(type(error).__name__, ())
            killed = isinstance(error, errors.CallKilled) and "killed" in call.may and pid
            right = call.kind.needs in need or killed or (self.crowded and isinstance(error, errors.CallTimeout))
        if right:
            self.died_in[pid].append(call)
        return bool(right)

    def _check_blame(self) -> None:
        """One call for each worker that was lost, and it is the last one that was begun there, or none was."""
        for pid, blamed in self.died_in.items():
            if len(blamed) > 1:
                self.books.wrong(f"worker {pid} died once, and that is charged to {blamed}")
            call, begun = blamed[0], self.begun_in.get(pid, [])
            if call.number in begun and begun[-1] != call.number:
                last = self.books.calls.get(begun[-1])
                self._wrong(call, f"is charged with the end of worker {pid}, which was in {last!r}")
            elif call.number not in begun and not self._was_shot(call, pid):
                self._wrong(call, f"is charged with the end of worker {pid}, where it was never begun")
        if len(self.never_begun) > len(self.world.killed) and not self.crowded:
            words = f"of maps, more calls were not begun than workers killed ({len(self.world.killed)})"
            self.books.wrong(f"{words}: {self.never_begun[:5]}")

    def _was_shot(self, call: Call, pid: int) -> bool:
        """From outside, perhaps when the call was loaded and not yet begun."""
        return pid in self.world.killed or "killed" in call.may or self.crowded

    def _check_recycling(self) -> None:
        for pid, begun in self.begun_in.items():
            call = self.books.calls.get(begun[0])
            most = None if call is None else call.setting.most_calls
            if most is not None and len(begun) > most:
                self.books.wrong(f"worker {pid} began {len(begun)} calls, maxtasksperchild is {most}")


def _name(ok: bool, outcome: Any) -> str:
    return "value" if ok else type(outcome).__name__
