"""The pools that are compared: an adapter each, which does what a user of that system would write, at its best setting.

No loop of ours stands inside another's, and nothing is mended. What a system lacks, its adapter lacks, and the
catalogue leaves it out of what needs it. Each is named as `module:class`, for a process that imports no other.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    Function = Callable[..., Any]


class Adapter:
    """A system. It can be opened once."""

    imports = "pass"  # the statement that a user writes first
    names_pool = ""  # the one that names the pool, where that loads more

    def load(self) -> None:
        """Import the system, as far as its user's import statement does."""
        exec(self.imports, {})

    def open(self, workers: int) -> None:
        raise NotImplementedError

    def imap(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        """`length`: of the items, for who must be told."""
        raise NotImplementedError

    def imap_unordered(self, function: "Function", items: "Iterable[Any]", length: int) -> "Iterator[Any]":
        raise NotImplementedError

    def stream(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        """`imap` in a `for` loop, as a user writes it. To keep what it gives, to be checked later, costs some 15 ns."""
        return kept(self.imap(function, items, len(items)))

    def map(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        raise NotImplementedError

    def submit_all(self, function: "Function", items: "Sequence[Any]") -> "list[Any]":
        """One submit an item, and only then all results, in the order of the items."""
        raise NotImplementedError

    def call(self, function: "Function", item: "Any") -> "Any":
        """One submit, waited for."""
        raise NotImplementedError

    def one_by_one(self, function: "Function", items: "Iterable[Any]", clock: "Callable[[], float]") -> "Timed":
        """`call` of each: what it gave, and the seconds that it took."""
        found = []
        for item in items:
            began = clock()
            value = self.call(function, item)
            found.append((value, clock() - began))
        return found

    def close(self) -> None:
        """The patient end: no more calls, wait for the workers to leave."""
        raise NotImplementedError

    def leave(self) -> None:
        """The end of a `with` block."""
        raise NotImplementedError


if TYPE_CHECKING:
    Timed = list[tuple[Any, float]]


def kept(stream: "Iterator[Any]") -> "list[Any]":
    values: list[Any] = []
    keep = values.append
    for value in stream:
        keep(value)
    return values
