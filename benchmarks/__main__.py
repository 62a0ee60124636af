"""`python -m benchmarks SUBJECT`, from the repository root. Each subject is a package beside this file."""

import argparse
import sys

from benchmarks.compare import command as compare
from benchmarks.faults import command as faults
from benchmarks.growth import command as growth
from benchmarks.ipc.command import IPC
from benchmarks.models.command import MODELS
from benchmarks.pool.command import POOL
from benchmarks.server.command import SERVER


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="procoro beside its peers")
    subjects = parser.add_subparsers(title="subjects", required=True)
    for subject in (POOL, IPC, MODELS, SERVER):
        compare.add_to(subjects, subject)
    growth.add_to(subjects)
    faults.add_to(subjects)
    options = parser.parse_args(arguments)
    status: int = options.start(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
