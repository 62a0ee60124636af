"""What a result costs, which a program may have a million of."""

import gc
from concurrent.futures._base import FINISHED

import pytest

from procoro.results.result import Result

pytestmark = pytest.mark.pure


def test_a_result_that_ends_gets_no_dict_of_its_own() -> None:
    results: list[Result[int]] = [Result() for _ in range(1000)]
    gc.disable()
    try:
        before, *_ = gc.get_count()
        for result in results:
            result._outcomes = None
            result._state = FINISHED
            result._result, result._exception = 1, None
        after, *_ = gc.get_count()
    finally:
        gc.enable()
    assert after - before < 100, "so many objects were made for the collector to look at"
