"""The options of `python -m benchmarks ipc`."""

from benchmarks.compare.command import Subject
from benchmarks.compare.rounds import Effort
from benchmarks.ipc.catalogue import GOALS, MEASURES

IPC = Subject(
    "ipc",
    help="procoro's queues, pipes, locks and processes beside multiprocessing's and, in a full run, others'",
    quick_help="short rounds beside multiprocessing only",
    measures=MEASURES,
    goals=GOALS,
    quick=Effort(rounds=3, seconds=0.25),
    full=Effort(rounds=7, seconds=1.0),
)
