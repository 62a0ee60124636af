"""What is measured, as a table: to add a measure, write its function and a row here."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.pool.measures import importing, latency, lifetime, memory, throughput
from benchmarks.pool.systems.protocol import System
from benchmarks.pool.task import Task

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a measure that is shown. `key`: its name in what the measure returns."""

    key: str
    title: str
    unit: str
    more_is_better: bool = False
    goal: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """`most`: the limit of calls (samples, pairs) in a full run; a quick run takes a quarter of it.
    `repeats`: fresh processes a round. `streams`: variants that only cut streams otherwise take part."""

    name: str
    run: Callable[[System, Task], Figures]
    metrics: tuple[Metric, ...]
    inputs: str = "ints"
    most: int = 1
    repeats: int = 1
    streams: bool = False

    def admits(self, system: System) -> bool:
        return self.streams or not system.fixed_chunks


def _rate(title: str, goal: str = "") -> tuple[Metric, ...]:
    return (Metric("rate", title, "calls/s", more_is_better=True, goal=goal),)


def _stream(inputs: str, most: int, goal: str = "") -> Measure:
    return Measure(
        f"imap-{inputs}", throughput.imap, _rate(f"for y in imap(noop, {inputs})", goal), inputs, most, streams=True
    )


def _map(inputs: str, most: int) -> Measure:
    return Measure(f"map-{inputs}", throughput.map_, _rate(f"map(noop, {inputs})"), inputs, most)


MEASURES = (
    _stream("ints", 4_000_000, goal="procoro at least 20 x mp.Pool"),
    _stream("strings", 2_000_000),
    _stream("dicts", 1_000_000),
    Measure(
        "unordered-ints",
        throughput.imap_unordered,
        _rate("for y in imap_unordered(noop, ints)"),
        "ints",
        4_000_000,
        streams=True,
    ),
    _map("ints", 4_000_000),
    _map("strings", 2_000_000),
    _map("dicts", 1_000_000),
    Measure("submit", throughput.submit_all, _rate("many submit(noop, int), then all results"), most=100_000),
    Measure(
        "latency",
        latency.latency,
        (
            Metric("p50_us", "one submit and its result, p50", "µs"),
            Metric("p99_us", "one submit and its result, p99", "µs"),
        ),
        most=4_000,
    ),
    Measure(
        "import",
        importing.importing,
        (Metric("above_ms", "import, above a bare interpreter", "ms", goal="procoro at most 15 ms"),),
        most=16,
    ),
    Measure(
        "start",
        lifetime.start_and_close,
        (
            Metric("first_ms", "Pool(2) to its first result", "ms", goal="procoro at most 70 ms"),
            Metric("end_ms", "close and join", "ms", goal="procoro at most 20 ms"),
        ),
        repeats=3,
    ),
    Measure(
        "leave",
        lifetime.start_and_leave,
        (Metric("end_ms", "leaving a `with` block", "ms", goal="procoro at most 20 ms"),),
        repeats=3,
    ),
    Measure(
        "memory",
        memory.idle,
        (
            Metric(
                "pss_mib", "idle Pool(2), PSS of all its processes and the parent", "MiB", goal="procoro at most 40 MiB"
            ),
            Metric("parent_mib", "of which the parent", "MiB"),
        ),
    ),
)
