"""Promise 5, from the other end: a consumer that is slower than the workers does not let memory grow."""

import pytest

from tests.promises import slow_consumers


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("size, items, every", [(1000, 101_000, 4000), (1 << 20, 100, 4)])
def test_memory_stays_flat(size: int, items: int, every: int, ordered: bool) -> None:
    taken, watch = slow_consumers.consume(size, ordered, items, every)
    assert taken == items and taken * size > 2 * 3 * slow_consumers.BYTES, "if it were kept, it would be seen"
    slow_consumers.check(size, watch)
