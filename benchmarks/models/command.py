"""The options of `python -m benchmarks models`."""

from benchmarks.compare.command import Subject
from benchmarks.compare.rounds import Effort
from benchmarks.models.catalogue import GOALS, MEASURES

MODELS = Subject(
    "models",
    help="procoro's threads, greenlets and asyncio beside what one would write by hand, and others",
    quick_help="short rounds; of memory procoro's only",
    measures=MEASURES,
    goals=GOALS,
    quick=Effort(rounds=3, seconds=0.25),
    full=Effort(rounds=5, seconds=1.5),
)
