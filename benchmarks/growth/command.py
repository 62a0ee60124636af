"""The options of `python -m benchmarks growth`, and what happens in which order."""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import fresh, machine
from benchmarks.compare import plot as bars
from benchmarks.compare import table
from benchmarks.compare.command import FORMAT, RESULTS, positive
from benchmarks.compare.rounds import Effort, present
from benchmarks.growth import plot
from benchmarks.growth.catalogue import CURVES, Curve
from benchmarks.growth.lines import Answer, Lines, lines

QUICK = Effort(rounds=1, seconds=0.25)
FULL = Effort(rounds=3, seconds=1.0)
PATIENCE = 120.0  # seconds, for one point
CODE = "from benchmarks.growth.child import main; main()"


def add_to(subjects: Any) -> None:
    help_ = "how procoro.Pool grows: with workers, with the length of calls, with payload, streams and time"
    parser = subjects.add_parser("growth", help=help_, description=f"{help_}; a plot of each, with a sentence")
    parser.add_argument("--quick", action="store_true", help="one round of fewer points; a tenth of the long stream")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[curve.name for curve in CURVES],
        help="only this curve; may be repeated",
    )
    parser.add_argument("--rounds", type=positive, metavar="N", help=f"({FULL.rounds}; quick: {QUICK.rounds})")
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="(benchmarks/results/growth-TIME.json; the plots stand beside it)"
    )
    parser.set_defaults(start=start)


def start(options: argparse.Namespace) -> int:
    """0: all measured. 1: something failed, which is named; what could be measured is still shown."""
    chosen = [curve for curve in CURVES if not options.only or curve.name in options.only]
    effort = QUICK if options.quick else FULL
    effort = Effort(options.rounds or effort.rounds, effort.seconds)
    about = machine.facts()
    print("\n".join(table.facts(about)), flush=True)
    path: Path = options.json or RESULTS / f"growth-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    answers: list[Answer] = []
    shown = []
    for curve in chosen:
        answers += _ask(curve, effort, curve.quick if options.quick else curve.points)
        found = lines(answers, curve.name)
        sentence = curve.sentence(found) if found else "Nothing could be measured."
        print("\n".join(_text(curve, found, sentence)), flush=True)
        shown.append({"curve": curve.name, "title": curve.title, "sentence": sentence, "lines": found})
        if found and bars.possible():
            plot.save(path.with_name(f"{path.stem}-{curve.name}.png"), curve, found, sentence)
    failed = [answer for answer in answers if answer.problem]
    for answer in failed:
        print(f"  FAILED: {answer.curve}, {answer.system}: {answer.problem}")
    about |= {"load after": machine.load()}
    document = {
        "format": FORMAT,
        "subject": "growth",
        "facts": about,
        "effort": asdict(effort),
        "curves": shown,
        "answers": [asdict(answer) for answer in answers],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(f"\n  figures: {path}; plots beside it")
    return 1 if failed else 0


def _ask(curve: Curve, effort: Effort, points: Sequence[float]) -> Iterator[Answer]:
    """Round by round, point by point; the systems take turns, and who goes first rotates."""
    study = f"{curve.study.__module__}:{curve.study.__name__}"
    systems = [system for system in curve.systems if present(system)]
    for turn in range(effort.rounds):
        first = turn % len(systems)
        for x in points:
            for system in systems[first:] + systems[:first]:
                arguments = (study, system.make, str(x), str(effort.seconds))
                found, problem = fresh.ask(CODE, arguments, PATIENCE)
                yield Answer(curve.name, system.name, turn, tuple(found), f"{problem} (at {x:g})" if problem else "")


def _text(curve: Curve, found: Lines, sentence: str) -> Iterator[str]:
    """A line for each point, a column for each figure that is drawn; of a long line ten points."""
    yield f"\n{curve.title}   [{curve.name}]"
    for system, line in found.items():
        yield f"  {system:12} {curve.x:>32} " + " ".join(f"{panel.title:>36}" for panel in curve.panels)
        for point in line[:: max(1, len(line) // 10)]:
            figures = " ".join(f"{table.number(point[panel.key]):>36}" for panel in curve.panels)
            yield f"  {'':12} {point['x']:>32,g} {figures}"
    yield f"  {sentence}"
