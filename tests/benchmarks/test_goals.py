"""The catalogues of the subjects that compare."""

import pytest

from benchmarks.compare.command import Subject
from benchmarks.ipc.command import IPC
from benchmarks.models.command import MODELS
from benchmarks.pool.command import POOL
from benchmarks.server.command import SERVER

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("subject", [POOL, IPC, MODELS, SERVER], ids=lambda one: str(one.name))
def test_every_goal_names_what_is_measured(subject: Subject) -> None:
    systems = {measure.name: {one.name for one in measure.systems} for measure in subject.measures}
    metrics = {measure.name: {one.key for one in measure.metrics} for measure in subject.measures}
    for goal in subject.goals:
        assert goal.key in metrics[goal.measure]
        assert {goal.system, *goal.others} <= systems[goal.measure]
    assert all(measure.against in systems[measure.name] for measure in subject.measures)
