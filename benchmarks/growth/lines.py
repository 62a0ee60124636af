"""From what processes said to lines: at each x the median over the rounds."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Point = dict[str, float]  # with its `x`
Lines = dict[str, list[Point]]  # by system, in the order of x


@dataclass(frozen=True, slots=True)
class Answer:
    """What one process found, or its `problem`."""

    curve: str
    system: str
    round: int
    points: tuple[Point, ...] = ()
    problem: str = ""


def lines(answers: Sequence[Answer], curve: str) -> Lines:
    mine = [answer for answer in answers if answer.curve == curve and answer.points]
    return {
        system: _line(point for answer in mine if answer.system == system for point in answer.points)
        for system in dict.fromkeys(answer.system for answer in mine)
    }


def _line(points: Iterable[Point]) -> list[Point]:
    by_x: dict[float, list[Point]] = {}
    for point in points:
        by_x.setdefault(point["x"], []).append(point)
    return [
        {key: statistics.median(point[key] for point in those) for key in those[0]} for _, those in sorted(by_x.items())
    ]
