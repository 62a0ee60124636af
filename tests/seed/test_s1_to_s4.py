"""Seed programs S1 to S4: the tutorial's processes, queue, pipe and lock, changed in their import lines only."""

import ast
from pathlib import Path

import pytest

from tests.seed.conftest import EXAMPLES, Play

PROGRAMS = sorted(path.name for path in EXAMPLES.glob("s[1-4]_*.py"))


def test_ten_processes_sleep_at_the_same_time(play: Play) -> None:
    """None is joined, none guarded, and the program waits for all of them."""
    printed, seconds = play("s1_process.py")
    assert sorted(printed.splitlines()) == [f"process {n}" for n in range(10)]
    assert 2 <= seconds < 10, "one after the other, it would be 20"


def test_what_the_child_puts_the_parent_gets(play: Play) -> None:
    printed, _ = play("s2_queue.py")
    assert printed == "雪芙\n"


def test_both_ends_of_a_pipe_greet_each_other(play: Play) -> None:
    printed, _ = play("s3_pipe.py")
    assert sorted(printed.splitlines()) == ["child got: hello, child", "parent got: hello, parent"]


def test_a_hundred_processes_print_a_whole_line_each(play: Play) -> None:
    printed, _ = play("s4_lock.py")
    wanted = [f"line {i} of 100: {'=' * 40} {i} ends" for i in range(100)]
    assert sorted(printed.splitlines()) == sorted(wanted)


@pytest.mark.pure
def test_only_the_import_line_is_ours() -> None:
    assert len(PROGRAMS) == 4
    for name in PROGRAMS:
        code = Path(EXAMPLES, name).read_text(encoding="utf-8")
        assert code.count("procoro") == 1 and "__main__" not in code
        imported = [node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
        assert imported == ["procoro"]
        assert ".join" not in code or name in ("s2_queue.py", "s3_pipe.py")


@pytest.mark.pure
def test_multiprocessing_has_every_name_that_they_use() -> None:
    import multiprocessing

    for name in PROGRAMS:
        tree = ast.parse(Path(EXAMPLES, name).read_text(encoding="utf-8"))
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
        assert names and all(hasattr(multiprocessing, one) for one in names)
