"""The options of `python -m benchmarks pool`, and what happens in which order."""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.fresh import ROOT
from benchmarks.pool import archive, plot, rounds, summary, table
from benchmarks.pool.catalogue import MEASURES, Measure
from benchmarks.pool.systems import SYSTEMS
from benchmarks.pool.systems.protocol import System

RESULTS = ROOT / "benchmarks" / "results"
BASELINE = "mp.Pool"


def add_to(subjects: Any) -> None:
    parser = subjects.add_parser(
        "pool",
        help="procoro.Pool beside other process pools",
        description=(
            "procoro.Pool beside other process pools, 2 workers. Each figure comes from a process of its own, "
            "the systems take turns; shown are medians over the rounds, spread, and ratios within a round."
        ),
    )
    parser.add_argument("--quick", action="store_true", help="3 short rounds, about a minute")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help=(
            "only measures whose name starts so; may be repeated. Names: "
            + ", ".join(measure.name for measure in MEASURES)
        ),
    )
    parser.add_argument(
        "--system",
        action="append",
        default=[],
        metavar="NAME",
        help=("only this system; may be repeated. Names: " + ", ".join(system.name for system in SYSTEMS)),
    )
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds to play (7; quick: 3)")
    parser.add_argument("--baseline", default=BASELINE, metavar="NAME", help="whom ratios refer to (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="(benchmarks/results/pool-TIME.json)")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="PATH",
        help=("PNG, SVG or PDF, by its ending (beside the JSON, where matplotlib is installed)"),
    )
    parser.set_defaults(start=lambda options: start(parser, options))


def start(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """0: all measured. 1: something failed, which the table names; what could be measured is still shown."""
    measures = _chosen_measures(parser, options.only)
    systems = _present(_chosen_systems(parser, options.system))
    _check_outputs(parser, options, systems)
    effort = rounds.QUICK if options.quick else rounds.FULL
    effort = replace(effort, rounds=options.rounds or effort.rounds)
    about = {**machine.facts(), "start": f"{multiprocessing.get_start_method()} (of multiprocessing)"}
    print("\n".join(table.facts(about)), flush=True)

    began_at = time.monotonic()
    samples = _watched(rounds.play(measures, systems, effort))
    about |= {"load after": machine.load(), "took": f"{time.monotonic() - began_at:.0f} s"}
    found = summary.rows(samples, measures, options.baseline)
    print("\n".join(table.lines(found, options.baseline)))
    print(f"\n  {len(samples)} processes, {about['took']}; load {about['load after']}")
    _keep(options, about, effort, found, samples)
    return 1 if any(sample.problem for sample in samples) else 0


def _chosen_measures(parser: argparse.ArgumentParser, beginnings: list[str]) -> list[Measure]:
    for beginning in beginnings:
        if not any(measure.name.startswith(beginning) for measure in MEASURES):
            parser.error(
                f"--only {beginning}: no such measure; there are " + ", ".join(measure.name for measure in MEASURES)
            )
    return [measure for measure in MEASURES if measure.name.startswith(tuple(beginnings) or "")]


def _chosen_systems(parser: argparse.ArgumentParser, names: list[str]) -> list[System]:
    known = [system.name for system in SYSTEMS]
    for name in names:
        if name not in known:
            parser.error(f"--system {name}: no such system; there are {', '.join(known)}")
    return [system for system in SYSTEMS if not names or system.name in names]


def _present(systems: Iterable[System]) -> list[System]:
    present = []
    for system in systems:
        if reason := rounds.why_absent(system):
            print(f"  skipped: {system.name} cannot be imported here ({reason})", flush=True)
        else:
            present.append(system)
    return present


def _check_outputs(parser: argparse.ArgumentParser, options: argparse.Namespace, systems: Sequence[System]) -> None:
    """What would fail at the end is refused before the first round."""
    if not systems:
        parser.error("none of the chosen systems can be imported")
    if options.plot and not plot.possible():
        parser.error("--plot needs matplotlib: install the extra `bench`")


def _watched(playing: Iterable[rounds.Sample]) -> list[rounds.Sample]:
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


def _keep(
    options: argparse.Namespace,
    about: machine.Facts,
    effort: rounds.Effort,
    found: list[summary.Row],
    samples: list[rounds.Sample],
) -> None:
    json_path: Path = options.json or RESULTS / f"pool-{time.strftime('%Y%m%d-%H%M%S')}.json"
    archive.save(json_path, about, effort, options.baseline, found, samples)
    print(f"  figures: {json_path}")
    if plot.possible():
        plot_path: Path = options.plot or json_path.with_suffix(".png")
        plot.save(plot_path, found, about)
        print(f"  plot:    {plot_path}")
    else:
        print("  no plot: matplotlib is not installed (extra `bench`)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"at least 1, got {text}")
    return int(text)
