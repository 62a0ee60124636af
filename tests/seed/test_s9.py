"""Seed program S9, its first half: each scene has its own model."""

import re
import subprocess
import sys
from pathlib import Path

from tests.seed.conftest import EXAMPLES

COLUMNS = ["a loop", "serial", "threads", "greenlets", "asyncio"]


def test_each_scene_has_its_own_model(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, EXAMPLES / "s9_moral.py", "moral.png"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    rows = {}
    for line in run.stdout.splitlines():
        cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        if len(cells) == len(COLUMNS) + 2:
            rows[cells[0]] = cells[1:]
    assert rows["seconds for"] == [*COLUMNS, "fastest"]
    waiting = dict(zip(COLUMNS, map(float, rows["waiting"][:-1]), strict=True))
    assert waiting["a loop"] > waiting["serial"]  # 40 waits of 50 ms: 2 s in all, 1 s on two workers
    assert max(waiting[model] for model in ("threads", "greenlets", "asyncio")) < waiting["serial"]
    assert rows["waiting"][-1] in ("threads", "greenlets", "asyncio")
    assert set(rows) == {"seconds for", "computing", "waiting", "both"}
    assert (tmp_path / "moral.png").read_bytes().startswith(b"\x89PNG")
