"""Seed program S6: the tutorial's coroutines, changed in their import line only."""

from pathlib import Path

import pytest

from tests.seed.conftest import EXAMPLES, Play

PROGRAM = EXAMPLES / "s6_coroutines.py"
OURS = "from procoro import joinall, sleep, spawn\n"
THEIRS = "from gevent import joinall, sleep, spawn\n"


@pytest.mark.parametrize("line", [OURS, THEIRS])
def test_three_coroutines_take_as_long_as_the_longest(play: Play, tmp_path: Path, line: str) -> None:
    program = tmp_path / PROGRAM.name
    program.write_text(PROGRAM.read_text().replace(OURS, line))
    printed, seconds = play(str(program))
    assert printed.split() == ["run1", "run2", "run3", "back3", "back2", "back1"]
    assert 2 <= seconds < 10


@pytest.mark.pure
def test_only_the_import_line_is_ours() -> None:
    code = PROGRAM.read_text()
    assert code.startswith(OURS)
    assert code.count("import") == code.count("procoro") == 1
