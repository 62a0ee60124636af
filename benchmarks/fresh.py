"""What every benchmark needs that starts fresh processes."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def environment() -> dict[str, str]:
    """Ours, but bytecode may be written: a system that is compiled anew in each process would look slow."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
