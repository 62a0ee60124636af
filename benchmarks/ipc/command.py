"""The options of `python -m benchmarks ipc`, and what happens in which order."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import fresh, machine
from benchmarks.fresh import ROOT
from benchmarks.ipc.catalogue import GOALS, MEASURES, Goal, Measure
from benchmarks.ipc.systems import System
from benchmarks.pool import plot, summary, table
from benchmarks.pool.rounds import Sample

RESULTS = ROOT / "benchmarks" / "results"
CHILD = "from benchmarks.ipc.child import main; main()"
PATIENCE = 60.0  # seconds; the longest measure takes about 5
FORMAT = 1  # raise it when a reader of older files would go wrong


def add_to(subjects: Any) -> None:
    parser = subjects.add_parser(
        "ipc",
        help="procoro's queues, pipes, locks and processes beside others",
        description=(
            "procoro's queues, pipes, locks and processes beside multiprocessing's and, in a full run, others'. Each "
            "figure comes from a process of its own, the systems take turns; shown are medians over the rounds, "
            "spread, ratios within a round, and what is to be reached."
        ),
    )
    parser.add_argument("--quick", action="store_true", help="3 short rounds beside multiprocessing only")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="only measures whose name starts so; may be repeated. Names: " + ", ".join(one.name for one in MEASURES),
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds to play (7; quick: 3)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="(benchmarks/results/ipc-TIME.json)")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="PNG, SVG or PDF, by its ending")
    parser.set_defaults(start=lambda options: start(parser, options))


def start(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """0: all measured. 1: something failed, which the table names; what could be measured is still shown."""
    chosen = [measure for measure in MEASURES if measure.name.startswith(tuple(options.only) or "")]
    if not chosen:
        parser.error(f"no such measure; there are {', '.join(one.name for one in MEASURES)}")
    if options.plot and not plot.possible():
        parser.error("--plot needs matplotlib: install the extra `bench`")
    rounds = options.rounds or (3 if options.quick else 7)
    seconds = 0.25 if options.quick else 1.0
    about = machine.facts()
    print("\n".join(table.facts(about)), flush=True)

    began_at = time.monotonic()
    samples = list(_play(chosen, rounds, seconds, full=not options.quick))
    about |= {"load after": machine.load(), "took": f"{time.monotonic() - began_at:.0f} s"}
    found = []
    for measure in chosen:
        rows = summary.rows(samples, [measure], measure.against)
        print("\n".join(table.lines(rows, measure.against)))
        found += rows
    goals = [line for goal in GOALS for line in _judged(goal, samples)]
    print("\ngoals   [median of the ratios within a round]", *goals, sep="\n  ")
    print(f"\n  {len(samples)} processes, {about['took']}; load {about['load after']}")

    path: Path = options.json or RESULTS / f"ipc-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "format": FORMAT,
        "subject": "ipc",
        "facts": about,
        "effort": {"rounds": rounds, "seconds": seconds},
        "goals": goals,
        "rows": [asdict(row) for row in found],
        "samples": [asdict(sample) for sample in samples],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(f"  figures: {path}")
    if plot.possible():
        plot.save(options.plot or path.with_suffix(".png"), found, about)
    return 1 if any(sample.problem for sample in samples) else 0


def _play(chosen: Sequence[Measure], rounds: int, seconds: float, *, full: bool) -> Iterator[Sample]:
    """Round by round; who goes first rotates."""
    present: dict[str, bool] = {}
    for turn in range(rounds):
        for measure in chosen:
            those = [one for one in measure.systems if (full or not one.full) and _is_here(one, present)]
            first = turn % len(those) if those else 0
            for system in those[first:] + those[:first]:
                arguments = (measure.name, system.name, str(seconds))
                figures, problem = fresh.ask(CHILD, arguments, PATIENCE)
                yield Sample(measure.name, system.name, turn, figures, problem)


def _is_here(system: System, present: dict[str, bool]) -> bool:
    if system.imports not in present:
        probe = subprocess.run([sys.executable, "-c", system.imports], cwd=ROOT, capture_output=True, text=True)
        present[system.imports] = probe.returncode == 0
        if probe.returncode:
            print(f"  skipped: {system.name} cannot be imported here ({fresh.last_line(probe.stderr)})", flush=True)
    return present[system.imports]


def _judged(goal: Goal, samples: Sequence[Sample]) -> Iterator[str]:
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
        for measure in MEASURES
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
