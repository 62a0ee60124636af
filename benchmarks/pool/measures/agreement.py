"""Whether a system gave what it was asked for. Always outside of the timed part."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class WrongResults(Exception):
    """A pool returned something other than the results of its calls: no figure is worth reporting."""


def check_all(results: "Sequence[Any]", expected: "Sequence[Any]") -> None:
    """Every call, in order."""
    if len(results) != len(expected):
        raise WrongResults(f"{len(results):,} results of {len(expected):,} calls")
    for place, (result, wanted) in enumerate(zip(results, expected, strict=True)):
        if result != wanted:
            raise WrongResults(f"call {place}: {result!r} instead of {wanted!r}")
