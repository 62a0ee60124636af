"""What is measured, of whom, and what is to be reached. To add a measure: its function, and a row here."""

from collections.abc import Callable
from typing import Any

from benchmarks.compare.catalogue import Figures, Goal, Measure, Metric, System, quick
from benchmarks.pool.measures import (
    arrays,
    consumer,
    importing,
    latency,
    lazy,
    lifetime,
    long_call,
    memory,
    recording,
    throughput,
    uneven,
)
from benchmarks.pool.peers import (
    BARE,
    CHUNKED,
    CLOSED,
    DASK,
    LEFT,
    LOCAL,
    LOCAL_PEERS,
    MAPS,
    MEMCPY,
    MP,
    PROCORO,
    RAY,
    STREAMS,
    SUBMITS,
    TRIO,
    UNCHUNKED,
    UNORDERED,
)


def _more(key: str, title: str, unit: str) -> Metric:
    return Metric(key, title, unit, more_is_better=True)


def _rate(
    name: str, run: Callable[..., Figures], title: str, those: tuple[System, ...], inputs: str = "ints"
) -> Measure:
    metrics = (_more("rate", title, "calls/s"), Metric("parent_cpu_us", f"{title}: CPU of the parent", "µs a call"))
    most = {"ints": 4_000_000, "strings": 2_000_000, "dicts": 1_000_000}[inputs]
    return Measure(name, run, metrics, those, "mp.Pool", {"inputs": inputs, "most": most})


def _uneven(name: str, run: Callable[..., Figures], those: tuple[System, ...]) -> Measure:
    metrics = tuple(
        _more(order, f"Pareto 0.1-50 ms by {name.partition('-')[2]}, {order}", "share of ideal")
        for order in ("random", "sorted")
    )
    return Measure(name, run, metrics, quick((*those, BARE), "procoro", "joblib", "no pool"), "no pool")


def _long_call(seconds: int, those: tuple[System, ...], **options: Any) -> Measure:
    title = f"a call of {seconds} s among 1,000 short ones"
    return Measure(
        f"long-{seconds}s",
        long_call.long_call,
        (
            Metric("gap_ms", f"{title}: short ones wait", "ms"),
            Metric("seen_ms", f"{title}: values of short ones wait", "ms"),
        ),
        those,
        "mp.Pool",
        {"length": seconds},
        **options,
    )


MEASURES = (
    *(
        _rate(
            f"imap-{inputs}",
            throughput.imap,
            f"for y in imap(noop, {inputs})",
            quick(STREAMS, "procoro", "mp.Pool", *(["joblib"] if inputs == "ints" else [])),
            inputs,
        )
        for inputs in ("ints", "strings", "dicts")
    ),
    _rate(
        "unordered-ints",
        throughput.imap_unordered,
        "for y in imap_unordered(noop, ints)",
        quick(UNORDERED, "procoro", "mp.Pool", "joblib"),
    ),
    *(
        _rate(f"map-{inputs}", throughput.map_, f"map(noop, {inputs})", quick(MAPS, "procoro", "mp.Pool"), inputs)
        for inputs in ("ints", "strings", "dicts")
    ),
    Measure(
        "submit",
        throughput.submit_all,
        (
            _more("rate", "100,000 submit(noop, int), then all results", "calls/s"),
            Metric("parent_cpu_us", "submit: CPU of the parent", "µs a call"),
        ),
        quick(SUBMITS, "procoro", "mp.Pool", "PPE"),
        "mp.Pool",
        {"most": 100_000},
    ),
    Measure(
        "latency",
        latency.latency,
        (
            Metric("p50_us", "one submit and its result, p50", "µs"),
            Metric("p99_us", "one submit and its result, p99", "µs"),
        ),
        quick(SUBMITS, "procoro", "PPE", "trio-parallel"),
        "PPE",
    ),
    _uneven("uneven-map", uneven.by_map, (*LOCAL, UNCHUNKED, TRIO, RAY, DASK)),
    _uneven("uneven-imap", uneven.by_imap, (*LOCAL, CHUNKED, UNCHUNKED)),
    _long_call(1, quick((*UNORDERED, UNCHUNKED), "procoro")),
    _long_call(60, quick((PROCORO, MP)), rounds=1),
    Measure(
        "arrays",
        arrays.arrays,
        tuple(
            _more(f"{way}_gb_s", f"8 MiB arrays {words}", "GB/s")
            for way, words in (("in", "as arguments"), ("out", "as results"), ("both", "there and back"))
        ),
        quick((*LOCAL, RAY, MEMCPY), "procoro", "PPE", "memcpy"),
        "memcpy",
    ),
    Measure(
        "lazy",
        lazy.lazy,
        (
            Metric("ahead", "1 KB items, 1 ms for each: pulled ahead", "items"),
            Metric("grown_mib", "meanwhile, all processes grow by", "MiB"),
            Metric("first_ms", "first result of a warm pool", "ms"),
        ),
        quick((*LOCAL, UNCHUNKED), "procoro"),
        "mp.Pool",
    ),
    Measure(
        "consumer",
        consumer.consumer,
        (_more("share", "imap of 20 µs calls, consumer 20 µs", "of its speed alone"),),
        quick((*LOCAL, CHUNKED), "procoro", "joblib"),
        "mp.Pool",
    ),
    Measure(
        "import",
        importing.importing,
        (
            Metric("above_ms", "import, above a bare interpreter", "ms"),
            Metric("pool_ms", "import that names the pool, above a bare interpreter", "ms"),
        ),
        quick(MAPS, "procoro", "mp.Pool"),
        "mp.Pool",
    ),
    Measure(
        "start",
        lifetime.start,
        (Metric("first_ms", "Pool(2) to its first result", "ms"),),
        quick(MAPS, "procoro", "mp.Pool"),
        "mp.Pool",
        repeats=3,
    ),
    Measure(
        "close",
        lifetime.close,
        (Metric("end_ms", "close and join", "ms"),),
        quick(CLOSED, "procoro", "mp.Pool"),
        "mp.Pool",
    ),
    Measure(
        "leave",
        lifetime.leave,
        (Metric("end_ms", "leaving a `with` block", "ms"),),
        quick(LEFT, "procoro", "mp.Pool"),
        "mp.Pool",
    ),
    Measure(
        "memory",
        memory.idle,
        (
            Metric("pss_mib", "idle Pool(2), PSS of all its processes and the parent", "MiB"),
            Metric("parent_mib", "of which the parent", "MiB"),
        ),
        quick(MAPS, "procoro", "PPE"),
        "PPE",
    ),
    Measure(
        "recording",
        recording.recording,
        (
            Metric("both_ns", "exact recording of an int, worker and parent", "ns a call"),
            Metric("worker_ns", "of which the worker", "ns a call"),
            Metric("parent_ns", "of which the parent", "ns a call"),
        ),
        (PROCORO,),
        "procoro",
    ),
)

ARRAYS = ("in_gb_s", "out_gb_s", "both_gb_s")
GOALS = (
    *(
        Goal(f"imap-{inputs}", "rate", "procoro", factor, "mp.Pool")
        for inputs, factor in (("ints", 40.0), ("strings", 20.0), ("dicts", 12.0))
    ),
    Goal("imap-ints", "rate", "procoro", 6.0, "joblib"),
    Goal("unordered-ints", "rate", "procoro", 40.0, "mp.Pool"),
    Goal("unordered-ints", "rate", "procoro", 6.0, "joblib"),
    *(
        Goal(f"map-{inputs}", "rate", "procoro", factor, "mp.Pool")
        for inputs, factor in (("ints", 0.45), ("strings", 0.9), ("dicts", 2.5))
    ),
    Goal("submit", "rate", "procoro", 12.0, "mp.Pool"),
    Goal("submit", "rate", "procoro", 35.0, "PPE"),
    Goal("latency", "p50_us", "procoro", 0.7, "PPE"),
    Goal("latency", "p50_us", "procoro", 1.0, "trio-parallel"),
    Goal("latency", "p99_us", "procoro", 0.7, "PPE"),
    *(
        Goal(f"uneven-{way}", order, "procoro", *goal)
        for way in ("map", "imap")
        for order in ("random", "sorted")
        for goal in ((0.95,), (0.95, "no pool"), (-0.01, "joblib", True))
    ),
    *(Goal(f"long-{seconds}s", key, "procoro", 100.0) for seconds in (1, 60) for key in ("gap_ms", "seen_ms")),
    *(Goal("arrays", key, "procoro", least) for key, least in zip(ARRAYS, (2.8, 2.2, 1.9), strict=True)),
    *(Goal("arrays", key, "procoro", 3.0, LOCAL_PEERS) for key in ARRAYS),
    *(Goal("arrays", key, "procoro", 1.0, "Ray") for key in ARRAYS),
    Goal("lazy", "ahead", "procoro", 4_096.0),
    Goal("lazy", "grown_mib", "procoro", 16.0),
    Goal("lazy", "first_ms", "procoro", 50.0),
    Goal("consumer", "share", "procoro", 0.85),
    Goal("import", "above_ms", "procoro", 15.0),
    Goal("start", "first_ms", "procoro", 70.0),
    Goal("close", "end_ms", "procoro", 20.0),
    Goal("leave", "end_ms", "procoro", 20.0),
    Goal("memory", "pss_mib", "procoro", 40.0),
    Goal("recording", "both_ns", "procoro", 600.0),
)
