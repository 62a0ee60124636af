"""The options of a subject that compares, and what happens in which order."""

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.compare import goals, plot, rounds, summary, table
from benchmarks.compare.catalogue import Goal, Measure
from benchmarks.compare.rounds import Arguments, Effort, Players, Sample
from benchmarks.fresh import ROOT

RESULTS = ROOT / "benchmarks" / "results"
FORMAT = 1  # raise it when a reader of older files would go wrong


@dataclass(frozen=True, slots=True)
class Subject:
    """`benchmarks.NAME.child` has a `main` that measures, as its `arguments` say. `patience`: seconds for that."""

    name: str
    help: str
    quick_help: str
    measures: tuple[Measure, ...]
    goals: tuple[Goal, ...]
    quick: Effort
    full: Effort
    arguments: Arguments = rounds.by_name
    patience: float = 60.0

    @property
    def systems(self) -> list[str]:
        return list(dict.fromkeys(system.name for measure in self.measures for system in measure.systems))


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
    parser.add_argument(
        "--system",
        action="append",
        default=[],
        metavar="NAME",
        help="only this system; may be repeated. Names: " + ", ".join(subject.systems),
    )
    rounds_ = f"rounds to play ({subject.full.rounds}; quick: {subject.quick.rounds})"
    parser.add_argument("--rounds", type=positive, metavar="N", help=rounds_)
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"(benchmarks/results/{subject.name}-TIME.json)")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="PNG, SVG or PDF, by its ending")
    parser.set_defaults(start=lambda options: start(parser, subject, options))


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"at least 1, got {text}")
    return int(text)


def _names(subject: Subject) -> str:
    return ", ".join(one.name for one in subject.measures)


def start(parser: argparse.ArgumentParser, subject: Subject, options: argparse.Namespace) -> int:
    """0: all measured. 1: something failed, which the table names; what could be measured is still shown."""
    chosen = _chosen(parser, subject, options)
    if options.plot and not plot.possible():
        parser.error("--plot needs matplotlib: install the extra `bench`")
    effort = subject.quick if options.quick else subject.full
    effort = Effort(options.rounds or effort.rounds, effort.seconds)
    about = machine.facts()
    print("\n".join(table.facts(about)), flush=True)

    began_at = time.monotonic()
    code = f"from benchmarks.{subject.name}.child import main; main()"
    players = Players(not options.quick, options.system)
    samples = watched(rounds.play(code, subject.arguments, chosen, players, effort, subject.patience))
    about |= {"load after": machine.load(), "took": f"{time.monotonic() - began_at:.0f} s"}
    found = []
    for measure in chosen:
        rows = summary.rows(samples, [measure], measure.against)
        print("\n".join(table.lines(rows, measure.against)))
        found += rows
    reached = list(goals.judged(subject.goals, chosen, samples))
    print("\ngoals   [median over the rounds, of ratios within a round]", *reached, sep="\n  ")
    print(f"\n  {len(samples)} processes, {about['took']}; load {about['load after']}")

    path: Path = options.json or RESULTS / f"{subject.name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "format": FORMAT,
        "subject": subject.name,
        "facts": about,
        "effort": asdict(effort),
        "goals": reached,
        "rows": [asdict(row) for row in found],
        "samples": [asdict(sample) for sample in samples],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(f"  figures: {path}")
    if plot.possible():
        plot.save(options.plot or path.with_suffix(".png"), found, about)
    return 1 if any(sample.problem for sample in samples) else 0


def _chosen(parser: argparse.ArgumentParser, subject: Subject, options: argparse.Namespace) -> list[Measure]:
    for beginning in options.only:
        if not any(measure.name.startswith(beginning) for measure in subject.measures):
            parser.error(f"--only {beginning}: no such measure; there are {_names(subject)}")
    for name in options.system:
        if name not in subject.systems:
            parser.error(f"--system {name}: no such system; there are {', '.join(subject.systems)}")
    return [measure for measure in subject.measures if measure.name.startswith(tuple(options.only) or "")]


def watched(playing: Iterable[Sample]) -> list[Sample]:
    """With a line on a terminal that says where we are."""
    samples = []
    for sample in playing:
        samples.append(sample)
        if sys.stderr.isatty():
            done = f"{len(samples)} processes; {sample.measure}, {sample.system}"
            print(f"\r\033[K  {done}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return samples
