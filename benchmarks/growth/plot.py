"""A picture for each curve, with its sentence below. Needs matplotlib (extra `bench`)."""

import textwrap
from pathlib import Path
from typing import Any

from benchmarks.compare.plot import COLOURS
from benchmarks.growth.catalogue import Curve, Panel
from benchmarks.growth.lines import Lines

WIDTH, HEIGHT = 6.0, 4.0  # inches of a panel
LETTERS = 13  # of a sentence, an inch


def save(path: Path, curve: Curve, lines: Lines, sentence: str) -> None:
    # Not pyplot: no window, no global state.
    from matplotlib.figure import Figure

    wide = WIDTH * len(curve.panels)
    words = textwrap.fill(sentence, int(LETTERS * wide))
    below = 0.25 * (words.count("\n") + 2)
    figure = Figure(figsize=(wide, HEIGHT + below))
    figure.suptitle(curve.title, fontsize=11)
    for place, panel in enumerate(curve.panels, start=1):
        _draw(figure.add_subplot(1, len(curve.panels), place), curve, panel, lines)
    figure.tight_layout(rect=(0, below / (HEIGHT + below), 1, 1))
    figure.text(0.02, 0.1 / (HEIGHT + below), words, fontsize=9, va="bottom")
    figure.savefig(path)


def _draw(axes: Any, curve: Curve, panel: Panel, lines: Lines) -> None:
    for colour, (system, line) in zip(COLOURS, lines.items(), strict=False):
        marker = "o" if len(line) < 20 else ""
        axes.plot(
            [point["x"] for point in line],
            [point[panel.key] for point in line],
            color=colour,
            marker=marker,
            label=system,
        )
    if curve.log:
        axes.set_xscale("log")
    if panel.log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    if panel.level is not None:
        axes.axhline(panel.level, color="#8d8d8d", linewidth=1, linestyle="--")
    axes.set_xlabel(curve.x, fontsize=9)
    axes.set_title(panel.title, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
