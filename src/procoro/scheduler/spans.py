"""What is with the workers: pieces of streams, and which of their calls have begun and ended."""

from __future__ import annotations

from procoro.calls import Piece


class Sent:
    """A span: a piece that is with a worker."""

    __slots__ = ("expected", "function", "limit", "number", "piece", "recorded")

    many = False  # its calls run one after another

    def __init__(self, number: int, piece: Piece, function: object, expected: float) -> None:
        self.number = number
        self.function = function
        self.piece = piece
        self.expected = expected  # seconds of work
        self.recorded = 0  # calls whose outcome is known: those at the front
        self.limit = piece.count  # calls from here on have been taken back

    def is_open(self, at: int) -> bool:
        """Is this call here, and has it not ended?"""
        return self.recorded <= at < self.limit


class Crowd(Sent):
    """A span whose calls run beside each other: begun in their order, ended in any."""

    __slots__ = ("ahead", "begun", "loaded")

    many = True

    def __init__(self, number: int, piece: Piece, function: object, expected: float) -> None:
        super().__init__(number, piece, function, expected)
        self.begun = 0  # calls that have begun: those at the front
        self.ahead: set[int] = set()  # calls whose outcome is known, behind one whose is not
        self.loaded = False  # has the worker loaded its function?

    def note(self, at: int, count: int) -> None:
        """The outcomes of `count` calls, from the `at`-th on, are known."""
        if at == self.recorded and not self.ahead:
            self.recorded += count
            return
        self.ahead.update(range(at, at + count))
        while self.recorded in self.ahead:
            self.ahead.remove(self.recorded)
            self.recorded += 1

    def is_open(self, at: int) -> bool:
        """Is this call here, and has it not ended?"""
        return self.recorded <= at < self.limit and at not in self.ahead

    def is_running(self, at: int) -> bool:
        """Has this call begun, and not ended?"""
        return self.recorded <= at < self.begun and at not in self.ahead

    def running(self) -> list[int]:
        """All calls that have begun and not ended."""
        return [at for at in range(self.recorded, self.begun) if at not in self.ahead]
