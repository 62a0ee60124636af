"""Where calls meet, and where they write down that they were there: under every model, and for the test to read."""

import asyncio
import os
import time
from collections import Counter
from pathlib import Path

from tests.promises.looks import wait_until

LOOK = 0.01  # seconds
PATIENCE = 30.0


class Meeting:
    """Where calls wait, under every model without holding up their neighbours, until the test ends it."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = os.fspath(folder)
        os.makedirs(self.folder, exist_ok=True)

    # ---- for the calls

    def come(self, who: object = "") -> None:
        self.sign(who)
        while not self.is_over():
            time.sleep(LOOK)

    async def acome(self, who: object = "") -> None:
        self.sign(who)
        while not self.is_over():
            await asyncio.sleep(LOOK)

    def sign(self, who: object = "") -> None:
        """Leave one's name."""
        line = f"{os.getpid()} {who}\n".encode()
        fd = os.open(f"{self.folder}/names", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, line)
        os.close(fd)

    def is_over(self) -> bool:
        return os.path.exists(f"{self.folder}/over")

    # ---- for the test

    def names(self) -> list[tuple[int, str]]:
        """The pids and names of all who have come."""
        try:
            lines = Path(self.folder, "names").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(int(pid), who) for pid, _, who in (line.partition(" ") for line in lines)]

    def who(self) -> list[str]:
        return [who for _, who in self.names()]

    def reached(self, count: int) -> list[int]:
        """Wait until so many have come; their pids."""
        wait_until(lambda: len(self.names()) >= count, f"{count} calls have met in {self.folder}", PATIENCE)
        return [pid for pid, _ in self.names()]

    def end(self) -> None:
        """Let all go on, and all who come later."""
        Path(self.folder, "over").touch()


class Book:
    """Where calls write down when they begin and end: so it can be told how many ran at once, and where."""

    def __init__(self, file: Path | str) -> None:
        self.file = os.fspath(file)

    def write(self, what: str) -> None:
        fd = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, f"{what} {os.getpid()}\n".encode())
        os.close(fd)

    def most(self) -> dict[int, int]:
        """For each worker: how many calls ran in it at once, at most."""
        now: Counter[int] = Counter()
        most: Counter[int] = Counter()
        for line in Path(self.file).read_text().splitlines():
            what, pid = line[0], int(line.rpartition(" ")[2])
            now[pid] += 1 if what == "+" else -1
            most[pid] = max(most[pid], now[pid])
        return dict(most)

    def kinds_at_once(self) -> set[frozenset[str]]:
        """Which kinds of calls ("+a": one of kind a begins) were together in one worker at any time."""
        now: dict[int, Counter[str]] = {}
        found = set()
        for line in Path(self.file).read_text().splitlines():
            what, pid = line.split()
            here = now.setdefault(int(pid), Counter())
            here[what[1:]] += 1 if what[0] == "+" else -1
            found.add(frozenset(kind for kind, count in here.items() if count))
        return found - {frozenset()}
