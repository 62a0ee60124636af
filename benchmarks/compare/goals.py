"""Whether what is to be reached is reached."""

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.compare.catalogue import Goal, Measure, Metric
from benchmarks.compare.rounds import Sample
from benchmarks.compare.table import number


def judged(goals: Sequence[Goal], measures: Sequence[Measure], samples: Sequence[Sample]) -> Iterator[str]:
    """A line for each goal that was measured: met or MISSED, by the median over the rounds."""
    metrics = {(measure.name, metric.key): metric for measure in measures for metric in measure.metrics}
    for goal in goals:
        metric = metrics.get((goal.measure, goal.key))
        if metric and (reached := _reached(goal, metric, samples)):
            yield _line(goal, metric, statistics.median(reached))


def _reached(goal: Goal, metric: Metric, samples: Sequence[Sample]) -> list[float]:
    """One value a round, to be compared with the goal's factor."""
    mine = _by_round(goal.measure, goal.key, goal.system, samples)
    if not goal.others:
        return [*mine.values()]
    best = max if metric.more_is_better else min
    others = [_by_round(goal.measure, goal.key, name, samples) for name in goal.others]
    reached = []
    for turn, value in mine.items():
        theirs = [one[turn] for one in others if turn in one]
        if theirs:
            reached.append(value - best(theirs) if goal.apart else value / best(theirs))
    return reached


def _by_round(measure: str, key: str, system: str, samples: Sequence[Sample]) -> dict[int, float]:
    return {
        one.round: one.figures[key]
        for one in samples
        if (one.measure, one.system) == (measure, system) and key in one.figures
    }


def _line(goal: Goal, metric: Metric, reached: float) -> str:
    met = reached >= goal.factor if metric.more_is_better else reached <= goal.factor
    side = ">=" if metric.more_is_better else "<="
    unit = metric.unit
    if goal.others:
        whom = goal.others[0] if len(goal.others) == 1 else "the best of " + ", ".join(goal.others)
        unit = f"above {whom}" if goal.apart else f"x {whom}"
    what = f"{goal.measure}, {metric.key}"
    word = "met   " if met else "MISSED"
    return f"{word} {what:28} {goal.system:12} {number(reached)} {side} {number(goal.factor)} {unit}"
