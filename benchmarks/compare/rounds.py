"""Every figure from a process of its own; systems by turns, so that a busy minute of the machine hits all."""

import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks import fresh
from benchmarks.compare.catalogue import Figures, Measure, System


@dataclass(frozen=True, slots=True)
class Effort:
    """`seconds`: how long what is timed lasts, about."""

    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process measured, or its `problem`."""

    measure: str
    system: str
    round: int
    figures: Figures = field(default_factory=dict)
    problem: str = ""


Arguments = Callable[[Measure, System, float], tuple[str, ...]]  # of a child that measures for so many seconds


def by_name(measure: Measure, system: System, seconds: float) -> tuple[str, ...]:
    """For `benchmarks.compare.child`."""
    return measure.name, system.name, str(seconds)


@dataclass(frozen=True, slots=True)
class Players:
    """Who takes part: those that are named; else all, but in a quick run without those of full runs."""

    full: bool
    named: Collection[str] = ()

    def of(self, measure: Measure) -> list[System]:
        if self.named:
            return [one for one in measure.systems if one.name in self.named]
        return [one for one in measure.systems if self.full or not one.full]


def play(
    code: str, arguments: Arguments, chosen: Sequence[Measure], players: Players, effort: Effort, patience: float
) -> Iterator[Sample]:
    """Round by round. Who goes first rotates, since the first meets the wake of another measure.

    `code`: of the processes that measure. `patience`: seconds after which one of them has failed.
    """
    for number in range(effort.rounds):
        for measure in chosen:
            if measure.rounds is not None and number >= measure.rounds:
                continue
            those = [system for system in players.of(measure) if present(system)]
            for turn in range(number * measure.repeats, (number + 1) * measure.repeats):
                first = turn % len(those) if those else 0
                for system in those[first:] + those[:first]:
                    figures, problem = fresh.ask(code, arguments(measure, system, effort.seconds), patience)
                    yield Sample(measure.name, system.name, turn, figures, problem)


_present: dict[str, bool] = {}


def present(system: System) -> bool:
    """Can it be imported? Says so, once, where it cannot. This also compiles it, so that no measured process has to."""
    if system.imports not in _present:
        probe = subprocess.run(
            [sys.executable, "-c", system.imports],
            cwd=fresh.ROOT,
            env=fresh.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        _present[system.imports] = probe.returncode == 0
        if probe.returncode:
            print(f"  skipped: {system.name} cannot be imported here ({fresh.last_line(probe.stderr)})", flush=True)
    return _present[system.imports]
