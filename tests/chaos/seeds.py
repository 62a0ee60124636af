"""Lives through seeds, each in a process of its own, which is ended if it hangs."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chaos.notes import FOLDER

LIMIT = 60.0  # seconds in which nothing happens: then it hangs
LONGEST = 900.0  # seconds for one seed, however slow the machine is
ROOT = Path(__file__).parents[2]


def live(seed: int, calls: int, limit: float = LIMIT) -> tuple[bool, str]:
    """Whether all was right, and what it said: its figures; if it was not, what was wrong."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        asked = ["--one", seed, "--calls", calls, "--limit", limit]
        command = [sys.executable, "-m", "tests.chaos", *map(str, asked)]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            command,
            env={**os.environ, FOLDER: folder, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            said, _ = process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            said = f"seed {seed}: HANGS, its watchdog too\n{process.communicate()[0]}"
        if process.returncode:
            complaints = Path(folder, "complaints")
            said += f"  exit code {process.returncode}\n"
            if complaints.exists():
                said += "".join(f"  | {line}\n" for line in complaints.read_text().splitlines()[-15:])
        return process.returncode == 0, said.rstrip()
