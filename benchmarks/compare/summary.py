"""From samples to what is shown: median, spread, and the median of the ratios within each round."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.compare.catalogue import Measure, Metric
from benchmarks.compare.rounds import Sample


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one system. `spread` is None where every round failed; `ratio` (this system's value over
    the baseline's in the same round) also where the baseline did not run. `calls`: median of those timed, 0
    where the measure counts none."""

    measure: str
    metric: Metric
    system: str
    spread: Spread | None
    ratio: Spread | None
    calls: int
    problems: tuple[str, ...]


def rows(samples: Sequence[Sample], measures: Iterable[Measure], baseline: str) -> list[Row]:
    """In the order of the catalogue, and of the systems' first appearance."""
    systems = list(dict.fromkeys(sample.system for sample in samples))
    return [
        _row(samples, measure, metric, system, baseline)
        for measure in measures
        for metric in measure.metrics
        for system in systems
        if any(
            (sample.measure, sample.system) == (measure.name, system)
            and (sample.problem or metric.key in sample.figures)
            for sample in samples
        )
    ]


def _row(samples: Sequence[Sample], measure: Measure, metric: Metric, system: str, baseline: str) -> Row:
    mine = [sample for sample in samples if sample.measure == measure.name and sample.system == system]
    values = _by_round(samples, measure, metric.key, system)
    against = _by_round(samples, measure, metric.key, baseline)
    ratios = [value / against[turn] for turn, value in values.items() if against.get(turn)]
    calls = _by_round(samples, measure, "calls", system)
    return Row(
        measure.name,
        metric,
        system,
        _spread(values.values()),
        _spread(ratios),
        round(statistics.median(calls.values())) if calls else 0,
        tuple(sample.problem for sample in mine if sample.problem),
    )


def _by_round(samples: Sequence[Sample], measure: Measure, key: str, system: str) -> dict[int, float]:
    return {
        sample.round: sample.figures[key]
        for sample in samples
        if sample.measure == measure.name and sample.system == system and key in sample.figures
    }


def _spread(values: Iterable[float]) -> Spread | None:
    known = list(values)
    return Spread(statistics.median(known), min(known), max(known)) if known else None
