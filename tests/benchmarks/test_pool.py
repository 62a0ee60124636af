"""`python -m benchmarks pool` measures, and says which goals are met."""

from pathlib import Path

import pytest

from benchmarks.compare import goals, summary
from benchmarks.compare.catalogue import Goal, Measure, Metric, System
from benchmarks.compare.rounds import Players, Sample
from benchmarks.pool.catalogue import MEASURES
from benchmarks.pool.child import named
from benchmarks.pool.measures.uneven import LONGEST, SHORTEST, pareto
from benchmarks.pool.systems import Adapter
from tests.benchmarks.runs import judged, short_run


def test_a_short_run(tmp_path: Path) -> None:
    measures = ("submit", "latency", "lazy", "close", "recording")
    options = ("--rounds", "1", "--system", "procoro", "--system", "PPE")
    document, said = short_run("pool", tmp_path / "figures.json", measures, *options)
    assert all(sample["figures"] for sample in document["samples"])
    assert {sample["measure"] for sample in document["samples"]} == set(measures)
    assert judged(document) >= 7
    assert "goals" in said and "PPE" in said


@pytest.mark.pure
def test_every_system_has_an_adapter_that_offers_what_is_measured_of_it() -> None:
    needs = {"imap": "stream", "unordered": "imap_unordered", "map": "map", "submit": "submit_all", "latency": "call"}
    needs |= {"long": "imap_unordered", "arrays": "imap_unordered", "lazy": "imap", "consumer": "imap"}
    needs |= {"uneven-map": "map", "uneven-imap": "imap", "close": "close", "leave": "leave", "memory": "map"}
    for measure in MEASURES:
        need = needs.get(measure.name) or needs.get(measure.name.partition("-")[0], "open")
        for system in measure.systems:
            assert offers(named(system.make), need), f"{measure.name}, {system.name}: no {need}"


def offers(adapter: type[Adapter], method: str) -> bool:
    if method == "stream" and adapter.stream is Adapter.stream:  # it is made of `imap`
        method = "imap"
    return getattr(adapter, method) is not getattr(Adapter, method)


@pytest.mark.pure
@pytest.mark.parametrize(
    "factor, against, apart, said",
    [
        (100.0, (), False, "met    m, k                         ours         100 >= 100 calls/s"),
        (2.0, "slow", False, "met    m, k                         ours         2.00 >= 2.00 x slow"),
        (2.0, ("slow", "fast", "absent"), False, "MISSED m, k                         ours         0.50 >= 2.00 x "),
        (-1.0, "slow", True, "met    m, k                         ours         50.0 >= -1.00 above slow"),
    ],
)
def test_a_goal_is_judged(factor: float, against: str | tuple[str, ...], apart: bool, said: str) -> None:
    measure = Measure("m", len, (Metric("k", "title", "calls/s", more_is_better=True),), (), "slow")
    samples = [
        Sample("m", system, turn, {"k": value})
        for turn in range(3)
        for system, value in (("ours", 100.0), ("slow", 50.0), ("fast", 200.0))
    ]
    (line,) = goals.judged([Goal("m", "k", "ours", factor, against, apart)], [measure], samples)
    assert line.startswith(said)


@pytest.mark.pure
def test_a_goal_that_was_not_measured_says_nothing() -> None:
    measure = Measure("m", len, (Metric("k", "title", "s"),), (), "theirs")
    samples = [Sample("m", "ours", 0, problem="broken"), Sample("m", "theirs", 0, {"k": 1.0})]
    assert list(goals.judged([Goal("m", "k", "ours", 1.0), Goal("n", "k", "ours", 1.0)], [measure], samples)) == []
    (ours, theirs) = summary.rows(samples, [measure], "theirs")
    assert ours.spread is None and ours.problems == ("broken",)
    assert theirs.ratio is not None and theirs.ratio.median == 1.0


@pytest.mark.pure
def test_who_takes_part() -> None:
    ours, theirs = System("ours", ""), System("theirs", "", full=True)
    measure = Measure("m", len, (), (ours, theirs), "ours")
    assert Players(full=False).of(measure) == [ours]
    assert Players(full=True).of(measure) == [ours, theirs]
    assert Players(full=False, named=["theirs"]).of(measure) == [theirs]


@pytest.mark.pure
def test_lengths_are_pareto() -> None:
    """Of a distribution with alpha 1 as many calls are longer than 1 ms as 0.1 / 1, about."""
    lengths = pareto(10_000)
    assert lengths == sorted(lengths) and lengths[0] > SHORTEST and lengths[-1] < LONGEST
    assert sum(length > 1.0 for length in lengths) == pytest.approx(1_000, rel=0.03)
