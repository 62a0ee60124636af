"""The figures as JSON: the facts, the summary, and every single sample, so that other ratios can be taken."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.machine import Facts
from benchmarks.pool.rounds import Effort, Sample
from benchmarks.pool.summary import Row

FORMAT = 1  # raise it when a reader of older files would go wrong


def save(
    path: Path, about: Facts, effort: Effort, baseline: str, rows: Sequence[Row], samples: Sequence[Sample]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "format": FORMAT,
        "subject": "pool",
        "facts": about,
        "effort": asdict(effort),
        "baseline": baseline,
        "rows": [asdict(row) for row in rows],
        "samples": [asdict(sample) for sample in samples],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
