"""Every program of the README and the docs runs as it stands, and prints what the docs say."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Program(NamedTuple):
    """A python block, and the text block right behind it, if there is one."""

    place: str  # file:line
    code: str
    output: str | None


def programs(page: Path) -> list[Program]:
    text = page.read_text(encoding="utf-8")
    blocks = list(FENCED.finditer(text))
    found = []
    for number, block in enumerate(blocks):
        if block[1] != "python":
            continue
        line = text.count("\n", 0, block.start()) + 1
        following = blocks[number + 1] if number + 1 < len(blocks) else None
        shown = following is not None and following[1] == "text" and not text[block.end() : following.start()].strip()
        output = following[2] if following is not None and shown else None
        found.append(Program(f"{page.relative_to(ROOT)}:{line}", block[2], output))
    return found


@pytest.mark.parametrize("program", [pytest.param(one, id=one.place) for page in PAGES for one in programs(page)])
def test_a_program_runs_and_prints_what_is_shown(program: Program, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(program.code, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if program.output is not None:
        assert run.stdout == program.output


def test_the_pages_have_programs_and_the_two_guides_have_the_same() -> None:
    count = {page.name: len(programs(page)) for page in PAGES}
    assert count["README.md"] >= 3
    assert count["guide.md"] == count["guide.zh.md"] >= 15
    assert count["processes.md"] == count["processes.zh.md"] >= 5
