"""`python -m benchmarks growth` measures, draws, and says what is to be seen."""

from pathlib import Path

import pytest

from benchmarks.growth import sentences
from benchmarks.growth.catalogue import CURVES
from benchmarks.growth.lines import Answer, lines
from tests.benchmarks.runs import short_run


def test_a_short_run(tmp_path: Path) -> None:
    document, said = short_run("growth", tmp_path / "figures.json", ["endless"])
    (curve,) = document["curves"]
    assert [point["x"] for point in curve["lines"]["procoro"]] == [20_000 * look for look in range(1, 51)]
    assert curve["sentence"] in said
    assert (tmp_path / "figures-endless.png").stat().st_size > 10_000


@pytest.mark.pure
def test_a_line_has_the_medians_in_order_of_x() -> None:
    answers = [Answer("c", "ours", turn, ({"x": x, "rate": x * turn},)) for turn in (3, 1, 2) for x in (4.0, 1.0)] + [
        Answer("c", "theirs", 0, problem="broken"),
        Answer("other", "ours", 0, ({"x": 1.0, "rate": 0.0},)),
    ]
    assert lines(answers, "c") == {"ours": [{"x": 1.0, "rate": 2.0}, {"x": 4.0, "rate": 8.0}]}


@pytest.mark.pure
def test_the_sentence_says_from_where_on_a_pool_is_ahead() -> None:
    speedups = {1e-6: 0.1, 1e-5: 1.1, 1e-4: 0.9, 1e-3: 1.2, 1e-2: 1.9}
    line = [{"x": x, "speedup": speedup} for x, speedup in speedups.items()]
    said = (
        "ours is ahead of a plain loop from calls of 1 ms on, at 10 ms by x 1.90; at 1 µs it has x 0.10 of the loop's"
    )
    assert sentences.of_runtime({"ours": line}).startswith(said)
    assert "does not overtake" in sentences.of_runtime({"ours": line[:1]})


@pytest.mark.pure
def test_every_curve_has_points_of_both_runs_and_a_system() -> None:
    for curve in CURVES:
        assert list(curve.points) == sorted(curve.points) and list(curve.quick) == sorted(curve.quick)
        assert curve.systems[0].name == "procoro" and curve.panels
