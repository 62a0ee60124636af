"""The options of a subject that compares, and what happens in which order."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import fresh, machine
from benchmarks.compare.catalogue import Goal, Measure, System
from benchmarks.fresh import ROOT
from benchmarks.pool import plot, summary, table
from benchmarks.pool.rounds import Sample

RESULTS = ROOT / "benchmarks" / "results"
PATIENCE = 60.0  # seconds; the longest measure takes about 5
FORMAT = 1  # raise it when a reader of older files would go wrong


@dataclass(frozen=True, slots=True)
class Effort:
    """`seconds`: how long what is timed lasts, about."""

    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Subject:
    """`benchmarks.NAME.child` has a `main` that measures."""

    name: str
    help: str
    quick_help: str
    measures: tuple[Measure, ...]
    goals: tuple[Goal, ...]
    quick: Effort
    full: Effort


def add_to(subjects: Any, subject: Subject) -> None:
    parser = subjects.add_parser(
        subject.name,
        help=subject.help,
        description=(
            f"{subject.help}. Each figure comes from a process of its own, the systems take turns; shown are medians "
            "over the rounds, spread, ratios within a round, and what is to be reached."
        ),
    )
    parser.add_argument("--quick", action="store_true", help=f"{subject.quick.rounds} {subject.quick_help}")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="only measures whose name starts so; may be repeated. Names: " + _names(subject),
    )
    rounds = f"rounds to play ({subject.full.rounds}; quick: {subject.quick.rounds})"
    parser.add_argument("--rounds", type=int, metavar="N", help=rounds)
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"(benchmarks/results/{subject.name}-TIME.json)")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="PNG, SVG or PDF, by its ending")
    parser.set_defaults(start=lambda options: start(parser, subject, options))


def _names(subject: Subject) -> str:
    return ", ".join(one.name for one in subject.measures)


def start(parser: argparse.ArgumentParser, subject: Subject, options: argparse.Namespace) -> int:
    """0: all measured. 1: something failed, which the table names; what could be measured is still shown."""
    chosen = [measure for measure in subject.measures if measure.name.startswith(tuple(options.only) or "")]
    if not chosen:
        parser.error(f"no such measure; there are {_names(subject)}")
    if options.plot and not plot.possible():
        parser.error("--plot needs matplotlib: install the extra `bench`")
    effort = subject.quick if options.quick else subject.full
    effort = Effort(options.rounds or effort.rounds, effort.seconds)
    about = machine.facts()
    print("\n".join(table.facts(about)), flush=True)

    began_at = time.monotonic()
    samples = list(_play(subject, chosen, effort, full=not options.quick))
    about |= {"load after": machine.load(), "took": f"{time.monotonic() - began_at:.0f} s"}
    found = []
    for measure in chosen:
        rows = summary.rows(samples, [measure], measure.against)
        print("\n".join(table.lines(rows, measure.against)))
        found += rows
    goals = [line for goal in subject.goals for line in _judged(goal, chosen, samples)]
    print("\ngoals   [median of the ratios within a round]", *goals, sep="\n  ")
    print(f"\n  {len(samples)} processes, {about['took']}; load {about['load after']}")

    path: Path = options.json or RESULTS / f"{subject.name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "format": FORMAT,
        "subject": subject.name,
        "facts": about,
        "effort": asdict(effort),
        "goals": goals,
        "rows": [asdict(row) for row in found],
        "samples": [asdict(sample) for sample in samples],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(f"  figures: {path}")
    if plot.possible():
        plot.save(options.plot or path.with_suffix(".png"), found, about)
    return 1 if any(sample.problem for sample in samples) else 0


def _play(subject: Subject, chosen: Sequence[Measure], effort: Effort, *, full: bool) -> Iterator[Sample]:
    """Round by round; who goes first rotates."""
    code = f"from benchmarks.{subject.name}.child import main; main()"
    present: dict[str, bool] = {}
    for turn in range(effort.rounds):
        for measure in chosen:
            those = [one for one in measure.systems if (full or not one.full) and _is_here(one, present)]
            first = turn % len(those) if those else 0
            for system in those[first:] + those[:first]:
                arguments = (measure.name, system.name, str(effort.seconds))
                figures, problem = fresh.ask(code, arguments, PATIENCE)
                yield Sample(measure.name, system.name, turn, figures, problem)


def _is_here(system: System, present: dict[str, bool]) -> bool:
    if system.imports not in present:
        probe = subprocess.run([sys.executable, "-c", system.imports], cwd=ROOT, capture_output=True, text=True)
        present[system.imports] = probe.returncode == 0
        if probe.returncode:
            print(f"  skipped: {system.name} cannot be imported here ({fresh.last_line(probe.stderr)})", flush=True)
    return present[system.imports]


def _judged(goal: Goal, measures: Sequence[Measure], samples: Sequence[Sample]) -> Iterator[str]:
    """A line for a goal that was measured."""
    mine, theirs = (
        {
            one.round: one.figures[goal.key]
            for one in samples
            if (one.measure, one.system) == (goal.measure, name) and one.figures
        }
        for name in (goal.system, goal.against)
    )
    values = (
        [value / theirs[turn] for turn, value in mine.items() if turn in theirs] if goal.against else [*mine.values()]
    )
    if not values:
        return
    (metric,) = (
        metric
        for measure in measures
        if measure.name == goal.measure
        for metric in measure.metrics
        if metric.key == goal.key
    )
    reached = statistics.median(values)
    met = reached >= goal.factor if metric.more_is_better else reached <= goal.factor
    side = ">=" if metric.more_is_better else "<="
    unit = f"x {goal.against}" if goal.against else metric.unit
    word = "met   " if met else "MISSED"
    yield f"{word} {goal.measure:16} {goal.system:12} {table.number(reached)} {side} {table.number(goal.factor)} {unit}"
