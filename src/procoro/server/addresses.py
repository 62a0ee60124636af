"""How many connections each address has, in a worker where that is limited."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Addresses:
    """`most`: connections of one address; None: as many as come."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def enter(self, peer: Any) -> bool:
        """Another one of this peer; False: one too many. It counts until it leaves."""
        if self._most is None or not isinstance(peer, tuple):  # those of a path are of this machine
            return True
        self._open[peer[0]] += 1
        return self._open[peer[0]] <= self._most

    def leave(self, peer: Any) -> None:
        """One of them is gone."""
        if self._most is not None and isinstance(peer, tuple):
            self._open[peer[0]] -= 1
            if not self._open[peer[0]]:
                del self._open[peer[0]]
