"""Who does what with a shared object: entries in its words, and what becomes of those of the dead."""

import pytest

from procoro.ipc.table import ENTRY, PID, START, Table

pytestmark = pytest.mark.pure


def test_entries_of_the_dead_make_room_when_there_is_none() -> None:
    words = memoryview(bytearray(8 * (1 + 3 * ENTRY))).cast("Q")
    table = Table(words, 0)
    assert table.mine() is None
    assert [table.add(value, 10 * value) for value in (1, 2, 3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="more than 3"):
        table.add(4)
    assert table.dead() == []
    for entry in (0, 1):
        words[1 + ENTRY * entry + START] += 1  # its pid is another's by now
    assert (table.dead(), table.mine()) == ([0, 1], 2)
    assert table.add(5) in (0, 1)
    assert sorted(table.value(entry) for entry in table.entries()) == [3, 5]
    assert (table.extra(2), table.dead()) == (30, [])
    table.remove(2)
    assert 2 not in table.entries()
    words[1 + PID] = words[1 + ENTRY + PID] = 0x7FFFFFFF  # nobody's
    assert len(table.dead()) == 1 and table.mine() is None
