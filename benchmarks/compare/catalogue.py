"""What catalogues are made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.pool.catalogue import Metric

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class System:
    """Who takes part. `make` makes what the measure asks for; where `imports` fails, it is left out."""

    name: str
    make: Callable[..., Any]
    imports: str = "pass"
    full: bool = False  # takes part in full runs only


@dataclass(frozen=True, slots=True)
class Measure:
    """`run(make, task)` measures. `against`: whom ratios refer to. `options`: of the task."""

    name: str
    run: Callable[..., Figures]
    metrics: tuple[Metric, ...]
    systems: tuple[System, ...]
    against: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Goal:
    """The system's figure is at least (or at most, where less is better) `factor` times that of `against`; without
    `against`, `factor` itself."""

    measure: str
    key: str
    system: str
    factor: float
    against: str = ""
