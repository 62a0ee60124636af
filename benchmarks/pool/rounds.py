"""Every figure from a process of its own; systems by turns, so that a busy minute of the machine hits all."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks import fresh
from benchmarks.fresh import ROOT, environment, last_line
from benchmarks.pool.catalogue import Figures, Measure
from benchmarks.pool.systems.protocol import System

CHILD = "from benchmarks.pool.child import main; main()"
PATIENCE = 120.0  # seconds; the longest measure takes about 5


@dataclass(frozen=True, slots=True)
class Effort:
    """`seconds`: how long a timed part lasts at least. `share`: of each measure's `most`."""

    rounds: int
    seconds: float
    share: float


QUICK = Effort(rounds=3, seconds=0.25, share=0.25)
FULL = Effort(rounds=7, seconds=1.0, share=1.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process measured, or its `problem`."""

    measure: str
    system: str
    round: int
    figures: Figures = field(default_factory=dict)
    problem: str = ""


def play(measures: Sequence[Measure], systems: Sequence[System], effort: Effort) -> Iterator[Sample]:
    """Round by round. Who goes first rotates, since the first meets the wake of another measure."""
    for number in range(effort.rounds):
        for measure in measures:
            for repeat in range(measure.repeats):
                turn = number * measure.repeats + repeat
                for system in _rotated([system for system in systems if measure.admits(system)], turn):
                    yield measured(measure, system, effort, turn)


def why_absent(system: System) -> str:
    """ "" where the system can be imported. This also compiles it, so that no measured process has to."""
    probe = subprocess.run(
        [sys.executable, "-c", f"{system.imports}; {system.pool}"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if probe.returncode == 0 else last_line(probe.stderr)


def measured(measure: Measure, system: System, effort: Effort, round_: int) -> Sample:
    most = max(1, int(measure.most * effort.share))
    task = (system.name, measure.inputs, str(effort.seconds), str(most))
    figures, problem = fresh.ask(CHILD, (measure.run.__module__, measure.run.__name__, *task), PATIENCE)
    return Sample(measure.name, system.name, round_, figures, problem)


def _rotated(systems: list[System], turns: int) -> list[System]:
    first = turns % len(systems) if systems else 0
    return systems[first:] + systems[:first]
