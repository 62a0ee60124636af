"""The cells as a table in Markdown: a row a fault, a column a system."""

from collections.abc import Iterator, Sequence

from benchmarks.faults.cells import Cell
from benchmarks.machine import Facts


def lines(cells: Sequence[Cell]) -> Iterator[str]:
    faults = list(dict.fromkeys(cell.fault for cell in cells))
    systems = list(dict.fromkeys(cell.system for cell in cells))
    verdicts = {(cell.fault, cell.system): cell.verdict for cell in cells}
    yield _row("fault", *systems)
    yield _row(*["---"] * (1 + len(systems)))
    for fault in faults:
        yield _row(fault, *(verdicts[fault, system] for system in systems))
    yield _row(f"**ok of {len(faults)}**", *(_sum([verdicts[fault, system] for fault in faults]) for system in systems))


def facts(about: Facts) -> Iterator[str]:
    for name, value in about.items():
        yield f"- {name}: {value}"


def _sum(verdicts: Sequence[str]) -> str:
    missing = verdicts.count("n/a")
    return f"**{verdicts.count('ok')}**" + (f" ({missing} n/a)" if missing else "")


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"
