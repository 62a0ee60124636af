"""The options of `python -m benchmarks pool`."""

from benchmarks.compare.command import Subject
from benchmarks.compare.rounds import Effort
from benchmarks.pool.catalogue import GOALS, MEASURES
from benchmarks.pool.child import arguments

POOL = Subject(
    "pool",
    help="procoro.Pool beside other process pools, with 2 workers",
    quick_help="short rounds, beside those only that the goals name",
    measures=MEASURES,
    goals=GOALS,
    quick=Effort(rounds=3, seconds=0.25),
    full=Effort(rounds=5, seconds=1.0),
    arguments=arguments,
    patience=120.0,
)
