"""What is measured, of whom, and what is to be reached. To add a measure: its function, and a row here."""

from typing import Any

from benchmarks.compare.catalogue import Goal, Measure, Metric, System
from benchmarks.ipc import measures, systems


def _rate(title: str, name: str, those: tuple[System, ...], against: str, **options: Any) -> Measure:
    metric = Metric("rate", title, "items/s", more_is_better=True)
    return Measure(name, measures.throughput, (metric,), those, against, options)


def _bulk(title: str, name: str, those: tuple[System, ...], against: str, payload: str) -> Measure:
    metric = Metric("gb_s", title, "GB/s", more_is_better=True)
    return Measure(name, measures.throughput, (metric,), those, against, {"payload": payload})


def _processes(count: int) -> Measure:
    metrics = (
        Metric("all_ms", f"{count} processes started and joined", "ms"),
        Metric("first_ms", "the first process, before those", "ms"),
    )
    return Measure(f"processes-{count}", measures.processes, metrics, systems.PROCESSES, "mp fork", {"count": count})


MEASURES = (
    _rate("16 bytes, one to one", "queue-16", systems.LINES, "mp.Queue"),
    _rate("small dict, one to one", "queue-dict", systems.LINES, "mp.Queue", payload="dict"),
    _rate("16 bytes, two to one", "queue-16-2to1", systems.QUEUES, "mp.Queue", writers=2),
    _rate("small dict, two to one", "queue-dict-2to1", systems.QUEUES, "mp.Queue", payload="dict", writers=2),
    _bulk("64 KiB through Queue(64)", "queue-64KiB", systems.large_queues(64), "mp.Queue", "64 KiB"),
    _bulk("8 MiB through Queue(4)", "queue-8MiB", systems.large_queues(4), "mp.Queue", "8 MiB"),
    _rate("small dict through Pipe()", "pipe-dict", systems.PIPES, "mp.Pipe", payload="dict"),
    _rate("small dict through Pipe(False)", "pipe-dict-one-way", systems.ONE_WAY_PIPES, "mp.Pipe", payload="dict"),
    _bulk("64 KiB by send_bytes", "pipe-64KiB", systems.BYTE_PIPES, "mp.Pipe", "64 KiB"),
    _bulk("8 MiB by send_bytes", "pipe-8MiB", systems.BYTE_PIPES, "mp.Pipe", "8 MiB"),
    Measure(
        "queue-joined",
        measures.joined,
        (Metric("rate", "put, worked on and joined", "items/s", more_is_better=True),),
        systems.JOINED,
        "mp.JoinableQueue",
        {"count": 20_000},
    ),
    Measure(
        "round-trip",
        measures.round_trip,
        (Metric("p50_us", "there and back over two queues, p50", "µs"), Metric("p99_us", "the same, p99", "µs")),
        (*systems.QUEUES, systems.RAW),
        "mp.Queue",
        {"count": 3_000},
    ),
    Measure(
        "lock-pair",
        measures.lock_pair,
        (Metric("pair_us", "acquire and release, uncontended", "µs"),),
        systems.LOCKS,
        "mp.Lock",
    ),
    Measure(
        "lock-contended",
        measures.lock_contended,
        (
            Metric("rate", "two processes contend", "acquisitions/s", more_is_better=True),
            Metric("least", "of which the one that got less", "acquisitions/s", more_is_better=True),
        ),
        systems.LOCKS,
        "mp.Lock",
    ),
    Measure(
        "barrier",
        measures.barrier,
        (Metric("turn_us", "two processes meet at a barrier", "µs"),),
        systems.BARRIERS,
        "mp.Barrier",
        {"count": 2_000},
    ),
    _processes(10),
    _processes(100),
    Measure(
        "descriptors",
        measures.descriptors,
        (Metric("descriptors", "descriptors of one object", "open"),),
        systems.OBJECTS,
        "mp.Queue",
    ),
)

GOALS = (
    *(Goal("queue-16", "rate", name, 2.0, "mp.Queue") for name in ("SimpleQueue", "Queue(1000)")),
    *(Goal("queue-dict", "rate", name, 1.6, "mp.Queue") for name in ("SimpleQueue", "Queue(1000)")),
    *(
        Goal(name, "rate", "Queue", 1.2, "mp.Queue")
        for name in ("queue-16", "queue-dict", "queue-16-2to1", "queue-dict-2to1")
    ),
    Goal("queue-64KiB", "gb_s", "Queue", 4.0, "mp.Queue"),
    Goal("queue-8MiB", "gb_s", "Queue", 6.0, "mp.Queue"),
    Goal("pipe-dict", "rate", "Pipe", 1.3, "mp.Pipe"),
    Goal("pipe-dict-one-way", "rate", "Pipe", 1.3, "mp.Pipe"),
    Goal("pipe-64KiB", "gb_s", "Pipe", 4.0, "mp.Pipe"),
    Goal("pipe-8MiB", "gb_s", "Pipe", 6.0, "mp.Pipe"),
    *(Goal("round-trip", "p50_us", name, 1.0, "mp.Queue") for name in ("SimpleQueue", "Queue(1000)", "Queue")),
    Goal("lock-pair", "pair_us", "Lock", 5.0),
    Goal("lock-contended", "rate", "Lock", 150_000.0),
    *(Goal(f"processes-{count}", "all_ms", "Process", 1.5, "mp fork") for count in (10, 100)),
    *(Goal(f"processes-{count}", "all_ms", "Process", 1 / 8, "mp spawn") for count in (10, 100)),
)
