"""The options of `python -m benchmarks server`."""

from benchmarks.compare.command import Subject
from benchmarks.compare.rounds import Effort
from benchmarks.server.catalogue import GOALS, MEASURES

SERVER = Subject(
    "server",
    help="procoro's server beside gevent's, asyncio's and uvloop's; needs a C compiler for the load",
    quick_help="short rounds",
    measures=MEASURES,
    goals=GOALS,
    quick=Effort(rounds=3, seconds=0.5),
    full=Effort(rounds=5, seconds=2.0),
)
