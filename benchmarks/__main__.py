"""`python -m benchmarks SUBJECT`, from the repository root. Each subject is a package beside this file."""

import argparse
import sys

from benchmarks.faults import command as faults
from benchmarks.growth import command as growth
from benchmarks.ipc import command as ipc
from benchmarks.models import command as models
from benchmarks.pool import command as pool
from benchmarks.server import command as server


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="procoro beside its peers")
    subjects = parser.add_subparsers(title="subjects", required=True)
    pool.add_to(subjects)
    growth.add_to(subjects)
    faults.add_to(subjects)
    ipc.add_to(subjects)
    models.add_to(subjects)
    server.add_to(subjects)
    options = parser.parse_args(arguments)
    status: int = options.start(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
