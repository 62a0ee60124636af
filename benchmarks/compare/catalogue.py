"""What catalogues are made of."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a measure that is shown. `key`: its name in what the measure returns."""

    key: str
    title: str
    unit: str
    more_is_better: bool = False


@dataclass(frozen=True, slots=True)
class System:
    """Who takes part. `make` makes what the measure asks for; where `imports` fails, it is left out."""

    name: str
    make: Any
    imports: str = "pass"
    full: bool = False  # takes part in full runs only, and where it is asked for by name


@dataclass(frozen=True, slots=True)
class Measure:
    """`run(make, task)` measures. `against`: whom ratios refer to. `options`: of the task.

    `repeats`: fresh processes of each system in a round. `rounds`: no more of them, whatever is asked for.
    """

    name: str
    run: Callable[..., Figures]
    metrics: tuple[Metric, ...]
    systems: tuple[System, ...]
    against: str
    options: dict[str, Any] = field(default_factory=dict)
    repeats: int = 1
    rounds: int | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """The system's figure is at least (or at most, where less is better) `factor` times that of `against`, or, where
    these are several, of the best of them; without `against`, `factor` itself.

    `apart`: `factor` is added to the figure of `against`, not multiplied with it.
    """

    measure: str
    key: str
    system: str
    factor: float
    against: str | tuple[str, ...] = ()
    apart: bool = False

    @property
    def others(self) -> tuple[str, ...]:
        return (self.against,) if isinstance(self.against, str) else self.against


def quick(those: Iterable[System], *names: str) -> tuple[System, ...]:
    """The same, of whom only the named ones take part in quick runs."""
    return tuple(replace(one, full=one.name not in names) for one in those)
