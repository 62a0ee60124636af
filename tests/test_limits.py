"""Limits that two rooms share which may not know each other: the scheduler's, and those of the memory they fill."""

import pytest

from procoro.scheduler import batching, crowds, fleet
from procoro.wire import record, ring

pytestmark = pytest.mark.pure


def test_the_scheduler_fits_into_the_record() -> None:
    assert batching.MOST_CALLS <= record.CALLS
    assert fleet.WINDOW <= record.SLOTS
    assert crowds.MOST_SPANS < ring.SPANS
