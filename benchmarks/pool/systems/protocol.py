"""What an adapter offers. Never imported in a measured process: see `benchmarks.pool`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol


class OpenPool(Protocol):
    """A started pool. Each method does what a user of that system would write, with no loop of ours inside
    another's."""

    def imap(self, function: Callable[..., Any], items: Sequence[Any]) -> Iterator[Any]: ...

    def imap_unordered(self, function: Callable[..., Any], items: Sequence[Any]) -> Iterator[Any]: ...

    def map(self, function: Callable[..., Any], items: Sequence[Any]) -> list[Any]: ...

    def submit_all(self, function: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        """One submit an item, and only then all results, in the order of the items."""

    def call(self, function: Callable[..., Any], item: Any) -> Any:
        """One submit, waited for."""

    def close(self) -> None:
        """The patient end: no more calls, wait for the workers to leave."""

    def leave(self) -> None:
        """The end of a `with` block."""


class System(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def imports(self) -> str:
        """The statement that a user writes first; `import` times it."""

    @property
    def pool(self) -> str:
        """The expression that makes a pool, after `imports`. May load more: that belongs to `start`."""

    @property
    def fixed_chunks(self) -> bool:
        """A variant that differs from its plain sibling only where a stream is cut into chunks."""

    def load(self) -> None: ...

    def open(self, workers: int) -> OpenPool: ...
