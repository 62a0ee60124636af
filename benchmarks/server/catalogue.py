"""What is measured, of whom, and what is to be reached. To add a measure: its function, and a row here."""

from typing import Any

from benchmarks.compare.catalogue import Goal, Measure, Metric, System
from benchmarks.server import measures


def _server(name: str, function: str, imports: str = "pass") -> System:
    return System(name, lambda: function, imports)


SYSTEMS = (
    _server("procoro", "procoro_async"),
    _server("greenlets", "procoro_plain"),
    _server("gevent", "gevent_server", "import gevent"),
    _server("asyncio streams", "asyncio_streams"),
    _server("uvloop streams", "uvloop_streams", "import uvloop"),
    _server("uvloop protocol", "uvloop_protocol", "import uvloop"),
)
AGAINST = "uvloop streams"


OF_SEVERAL_PROCESSES = SYSTEMS[:3]


def _echo(name: str, title: str, systems: tuple[System, ...], against: str, **options: Any) -> Measure:
    metrics = (
        Metric("cpu_us", f"CPU of the server, {title}", "µs a request"),
        Metric("rate", title, "requests/s", more_is_better=True),
        Metric("p99_us", "99 % are answered within", "µs"),
    )
    return Measure(name, measures.echo, metrics, systems, against, options)


MEASURES = (
    _echo("echo-64", "64 connections, 64 B", SYSTEMS, AGAINST, connections=64),
    _echo("echo-16k", "64 connections, 16 KiB", SYSTEMS, AGAINST, connections=64, size=16384),
    _echo("short", "connect, echo, close", SYSTEMS, AGAINST, connections=64, short=True),
    _echo("echo-10000", "10,000 connections, 64 at once", SYSTEMS, AGAINST, connections=10_000),
    _echo(
        "echo-two", "64 connections, 64 B, two processes", OF_SEVERAL_PROCESSES, "gevent", connections=64, processes=2
    ),
    Measure(
        "memory",
        measures.memory,
        (Metric("kib", "an idle connection", "KiB"),),
        SYSTEMS,
        AGAINST,
        {"connections": 5000},
    ),
    Measure(
        "spread",
        measures.spread,
        (Metric("fewest", "64 connections, the fewest of two processes", "connections", more_is_better=True),),
        OF_SEVERAL_PROCESSES,
        "gevent",
        {"connections": 64, "processes": 2},
    ),
)

CASES = ("echo-64", "echo-16k", "short", "echo-10000")
BESIDE_STREAMS = (0.75, 0.78, 0.7, 0.75)
BESIDE_GEVENT = (0.6, 0.7, 0.75, 0.4)
GOALS = (
    *(Goal(case, "cpu_us", "procoro", most, AGAINST) for case, most in zip(CASES, BESIDE_STREAMS, strict=True)),
    *(Goal(case, "cpu_us", "procoro", most, "gevent") for case, most in zip(CASES, BESIDE_GEVENT, strict=True)),
    *(Goal(case, "cpu_us", "greenlets", 1.1, "gevent") for case in CASES),
    Goal("memory", "kib", "procoro", 5.0),
    Goal("memory", "kib", "greenlets", 12.0),
    Goal("spread", "fewest", "procoro", 20.0),
    Goal("spread", "fewest", "greenlets", 20.0),
)
