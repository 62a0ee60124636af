"""What is measured, of whom, and what is to be reached. To add a measure: its function, and a row here."""

from typing import Any

from benchmarks.compare.catalogue import Goal, Measure, Metric, System, quick
from benchmarks.models import calls, measures, systems

CPU = Metric("cpu_us", "of that, CPU of all processes", "µs a call")


def _rate(name: str, title: str, those: tuple[System, ...], against: str, **options: Any) -> Measure:
    metrics = Metric("rate", title, "calls/s", more_is_better=True), CPU
    return Measure(name, measures.rate, metrics, those, against, options)


def _memory(model: str, those: tuple[System, ...], call: systems.Call) -> Measure:
    return Measure(
        f"memory-{model}",
        measures.memory,
        (Metric("kib", f"memory of each waiting call, {model}", "KiB"),),
        quick(those, "procoro"),
        "procoro",
        {"call": call, "count": 1000, "places": 1000, "processes": 1},
    )


MEASURES = (
    _rate(
        "greenlets",
        "time.sleep(0.05) in greenlets, 2 x 1000",
        systems.GREENLETS,
        "gevent by hand",
        call=calls.sleep_50_ms,
        count=20_000,
        places=1000,
    ),
    _rate(
        "threads",
        "time.sleep(0.05) in threads, 2 x 256",
        systems.THREADS,
        "by hand",
        call=calls.sleep_50_ms,
        count=5_000,
        places=256,
    ),
    _rate(
        "asyncio",
        "await sleep(0.02), 2 x 1000",
        systems.TASKS,
        "uvloop by hand",
        call=calls.sleep_20_ms,
        count=20_000,
        places=1000,
    ),
    Measure(
        "http",
        measures.http,
        (
            Metric("rate", "urlopen, 20 ms, in greenlets, 2 x 100", "requests/s", more_is_better=True),
            CPU,
            Metric("server_us", "CPU of the server", "µs a request"),
        ),
        systems.GREENLETS,
        "gevent by hand",
        {"call": calls.fetch, "count": 4_000, "places": 100},
    ),
    _rate(
        "await",
        "await submit(noop), 1000 at once",
        systems.SUBMITS,
        "blocking",
        call=calls.noop,
        count=100_000,
        places=1000,
    ),
    _memory("greenlets", systems.GREENLETS, calls.wait),
    _memory("asyncio", systems.TASKS, calls.await_),
    _memory("threads", systems.THREADS, calls.wait),
)

GOALS = (
    Goal("greenlets", "rate", "procoro", 30_000.0),
    Goal("threads", "rate", "procoro", 0.85, "by hand"),
    Goal("asyncio", "rate", "procoro", 80_000.0),
    Goal("asyncio", "rate", "procoro", 0.85, "asyncio by hand"),
    Goal("asyncio", "rate", "procoro", 0.85, "uvloop by hand"),
    Goal("asyncio", "rate", "procoro", 2.5, "aiomultiprocess"),
    Goal("http", "rate", "procoro", 0.9, "gevent by hand"),
    Goal("await", "rate", "await", 0.6, "blocking"),
    Goal("await", "rate", "await, uvloop", 0.6, "blocking"),
    Goal("memory-greenlets", "kib", "procoro", 30.0),
    Goal("memory-asyncio", "kib", "procoro", 10.0),
)
