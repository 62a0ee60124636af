"""The figures as bars: a panel a metric, a bar a system. Needs matplotlib (extra `bench`)."""

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.compare.summary import Row
from benchmarks.compare.table import number
from benchmarks.machine import Facts

COLUMNS = 3
LOG_FROM = 10  # times the shortest bar
COLOURS = (
    "#d1495b",
    "#30638e",
    "#7fa8c9",
    "#8d8d8d",
    "#edae49",
    "#3d9970",
    "#66508f",
    "#b07aa1",
    "#c8a165",
    "#2f4b4e",
    "#8fbf5a",
    "#d98fb5",
)


def possible() -> bool:
    return find_spec("matplotlib") is not None


def save(path: Path, rows: Sequence[Row], about: Facts) -> None:
    # Not pyplot: no window, no global state.
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.spread is not None]
    panels = [list(block) for _, block in groupby(shown, key=lambda row: (row.measure, row.metric))]
    colours = dict(zip(dict.fromkeys(row.system for row in shown), COLOURS * len(shown), strict=False))
    height = -(-len(panels) // COLUMNS) or 1
    figure = Figure(figsize=(5.2 * COLUMNS, 1.9 * height + 0.6), layout="constrained")
    figure.suptitle(
        f"{about['python'].partition(' (')[0]}, {about['cores']} cores, {about['processor']}, commit {about['commit']}",
        fontsize=10,
    )
    for place, block in enumerate(panels, start=1):
        _panel(figure.add_subplot(height, COLUMNS, place), block, colours)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _panel(axes: Any, block: list[Row], colours: dict[str, str]) -> None:
    metric = block[0].metric
    for row in reversed(block):  # the first row belongs on top
        if row.spread is None:
            continue
        value = row.spread.median
        reach = [[value - row.spread.lowest], [row.spread.highest - value]]
        axes.barh(row.system, value, xerr=reach, color=colours[row.system], height=0.7, capsize=2)
        axes.annotate(f" {number(value)}", (max(row.spread.highest, 0), row.system), va="center", fontsize=8)
    values = [row.spread.median for row in block if row.spread is not None]
    log = metric.more_is_better and max(values) > LOG_FROM * min(values)
    if log:
        axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.tick_params(labelsize=8)
    scale = ", log scale" if log else ""
    axes.set_title(f"{metric.title} [{metric.unit}{scale}]", fontsize=9)
