"""The figures as text: one block a metric, one line a system."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from benchmarks.compare.summary import Row, Spread
from benchmarks.machine import Facts

WIDTH = 18  # of the systems' names


def lines(rows: Iterable[Row], baseline: str) -> Iterator[str]:
    for (measure, metric), block in groupby(rows, key=lambda row: (row.measure, row.metric)):
        better = "more" if metric.more_is_better else "less"
        yield f"\n{metric.title}   [{measure}; {metric.unit}, {better} is better]"
        yield f"  {'':{WIDTH}} {'median':>9}  {'min .. max':>19}  {f'ratio to {baseline} (min .. max)':>32}"
        yield from map(_line, block)


def facts(about: Facts) -> Iterator[str]:
    for name, value in about.items():
        yield f"  {name:10} {value}"


def number(value: float) -> str:
    """Three digits that count, with k and M: 27.1 k, 2.95 M."""
    for limit, letter in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{_three_digits(value / limit)}{letter}"
    return _three_digits(value)


def _line(row: Row) -> str:
    if row.spread is None:
        return f"  {row.system:{WIDTH}} FAILED: {row.problems[-1] if row.problems else 'not measured'}"
    calls = f"  n {row.calls:,}" if row.calls else ""
    failed = f"  FAILED in {len(row.problems)} rounds: {row.problems[-1]}" if row.problems else ""
    span = f"{number(row.spread.lowest)} .. {number(row.spread.highest)}"
    median, ratio = number(row.spread.median), _ratio(row.ratio)
    return f"  {row.system:{WIDTH}} {median:>9}  {span:>19}  {ratio:>32}{calls}{failed}"


def _ratio(ratio: Spread | None) -> str:
    if ratio is None:
        return ""
    low, high = _three_digits(ratio.lowest), _three_digits(ratio.highest)
    return f"x {_three_digits(ratio.median)} ({low} .. {high})"


def _three_digits(value: float) -> str:
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    return f"{value:.{decimals}f}"
