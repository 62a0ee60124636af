"""The options of `python -m benchmarks faults`, and what happens in which order."""

import argparse
import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.faults import cells, systems, table
from benchmarks.faults.catalogue import FAULTS, NAMES
from benchmarks.faults.systems import SYSTEMS, Adapter

FORMAT = 1  # raise it when a reader of older files would go wrong


def add_to(subjects: Any) -> None:
    parser = subjects.add_parser(
        "faults",
        help="what each system does when something breaks",
        description=(
            "What each installed system does when a worker is killed, a result does not unpickle, the parent dies and "
            "so on. Every cell of the table is run, in a process of its own, and judged by the same rule for all: the "
            "docstring of its fault."
        ),
    )
    known = [system.name for system in SYSTEMS]
    for option, names, what in (
        ("--only", NAMES, "only these faults"),
        ("--skip", NAMES, "not these faults"),
        ("--system", known, "only these systems"),
    ):
        parser.add_argument(
            option,
            action="extend",
            nargs="+",
            default=[],
            choices=names,
            metavar="NAME",
            help=f"{what}; names: {', '.join(names)}",
        )
    parser.add_argument(
        "--limit", type=float, metavar="SECONDS", help="after which a cell hangs (20; some faults have more)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="the cells, with their seconds, as a file")
    parser.set_defaults(start=lambda options: start(parser, options))


def start(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """0: procoro, if it took part, was `ok` in all that it offers. 1: it was not."""
    faults = [fault for fault in FAULTS if fault.name in (options.only or NAMES) and fault.name not in options.skip]
    present = _present(system for system in SYSTEMS if not options.system or system.name in options.system)
    if not faults or not present:
        parser.error("nothing to run: no fault is left, or none of the chosen systems is installed")
    about = {
        **machine.facts(),
        "start": f"{multiprocessing.get_start_method()} (of multiprocessing)",
        "systems": ", ".join(f"{system.name} {systems.version(system)}".strip() for system in present),
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the cell under way is cleared away
    began_at = time.monotonic()
    played = _watched(cells.play(faults, present, options.limit))
    about |= {"load after": machine.load(), "took": f"{time.monotonic() - began_at:.0f} s"}
    print("\n".join([*table.facts(about), "", *table.lines(played)]))
    if options.json:
        _save(options.json, about, played)
    return 1 if any(cell.system == "procoro" and cell.verdict not in ("ok", "n/a") for cell in played) else 0


def _present(chosen: Iterable[type[Adapter]]) -> list[type[Adapter]]:
    present = []
    for system in chosen:
        if systems.installed(system):
            present.append(system)
        else:
            print(f"  skipped: {system.name} is not installed", file=sys.stderr)
    return present


def _watched(playing: Iterable[cells.Cell]) -> list[cells.Cell]:
    """With a line for each cell, beside the table: all of them take a quarter of an hour."""
    played = []
    for cell in playing:
        played.append(cell)
        print(f"  {cell.fault:26} {cell.system:14} {cell.seconds:6.1f} s  {cell.verdict}", file=sys.stderr, flush=True)
    return played


def _save(path: Path, about: machine.Facts, played: Sequence[cells.Cell]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"format": FORMAT, "subject": "faults", "facts": about, "cells": [asdict(cell) for cell in played]}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
