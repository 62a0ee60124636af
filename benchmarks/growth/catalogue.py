"""What grows, and what is drawn. To add a curve: its study, its sentence, and a row here."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.compare.catalogue import System
from benchmarks.growth import sentences
from benchmarks.growth.lines import Lines
from benchmarks.growth.studies import Figures, endless, payload, runtime, streams, workers
from benchmarks.pool.peers import MP, PPE, PROCORO


@dataclass(frozen=True, slots=True)
class Panel:
    """What is drawn over x. `level`: a value at which a line is drawn across."""

    key: str
    title: str
    log: bool = True
    level: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """`study(system, x, seconds)` measures. `quick`: the points of a quick run."""

    name: str
    title: str
    x: str
    study: Callable[..., Figures]
    points: tuple[float, ...]
    quick: tuple[float, ...]
    systems: tuple[System, ...]
    panels: tuple[Panel, ...]
    sentence: Callable[[Lines], str]
    log: bool = True  # is x?


KIB, MIB = 1 << 10, 1 << 20
RATE = Panel("rate", "calls/s")

CURVES = (
    Curve(
        "workers",
        "imap(noop, ints) with more workers",
        "workers",
        workers.workers,
        (1, 2, 4, 16),
        (1, 2, 4, 16),
        (PROCORO, MP),
        (RATE, Panel("parent_cpu_us", "CPU of the parent, µs a call")),
        sentences.of_workers,
    ),
    Curve(
        "runtime",
        "map on 2 workers beside a plain loop",
        "what one call takes, in seconds",
        runtime.runtime,
        (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
        (PROCORO, MP, PPE),
        (Panel("speedup", "times as fast as a loop", level=1.0),),
        sentences.of_runtime,
    ),
    Curve(
        "payload",
        "imap(noop, bytes), there and back",
        "bytes of one item",
        payload.payload,
        (1, 64, KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 8 * MIB, 64 * MIB, 256 * MIB),
        (1, KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB),
        (PROCORO, MP),
        (Panel("gb_s", "GB/s each way"), Panel("call_us", "µs a call")),
        sentences.of_payload,
    ),
    Curve(
        "streams",
        "imap(noop, ints) by many threads on one pool",
        "streams at once",
        streams.streams,
        (1, 2, 5, 10, 20, 50, 100),
        (1, 10, 100),
        (PROCORO, MP),
        (RATE, Panel("fairness", "first stream over, part of the time", log=False)),
        sentences.of_streams,
    ),
    Curve(
        "endless",
        "one stream of many calls: imap(noop, range(n))",
        "calls so far",
        endless.endless,
        (10_000_000,),
        (1_000_000,),
        (PROCORO,),
        (Panel("rate", "calls/s", log=False), Panel("mib", "PSS of all processes, MiB", log=False)),
        sentences.of_endless,
        log=False,
    ),
)
