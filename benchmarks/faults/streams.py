"""Where inputs come from a generator."""

import time
from collections.abc import Iterator

from benchmarks.faults import calls
from benchmarks.faults.expect import Wrong, opened
from benchmarks.faults.systems import Adapter

MANY = 200_000
WINDOW = 4_096
STILL = 1.0  # seconds without a pull: it stands still


def lazy_input(system: type[Adapter]) -> None:
    """`imap` over a generator of 200,000; three results are taken, and no more. When pulling has stood still for a
    second (or has not for ten), at most 4,096 inputs have been pulled beyond those three."""
    pulled = 0

    def numbers() -> Iterator[int]:
        nonlocal pulled
        for number in range(MANY):
            pulled += 1
            yield number

    with opened(system) as pool:
        stream = pool.imap(calls.double, numbers(), MANY)
        first = next(stream)
        early = " before the first result" if pulled == MANY else ""
        if [first, next(stream), next(stream)] != [0, 2, 4]:
            raise Wrong("another value")
        deadline = time.monotonic() + 10
        before = -1
        while pulled != before and time.monotonic() < deadline:
            before = pulled
            time.sleep(STILL)
        if pulled - 3 > WINDOW:
            raise Wrong(f"pulled {pulled}{early}")


class SourceFailed(Exception):
    pass


def fifty_then_failure() -> Iterator[int]:
    yield from range(50)
    raise SourceFailed


def generator_raises(system: type[Adapter]) -> None:
    """The input of an `imap` raises after 50 items. First come all 50 results, then the generator's own exception."""
    found: list[int] = []
    with opened(system) as pool:
        try:
            found.extend(pool.imap(calls.double, fifty_then_failure(), 51))  # keeps what came before an exception
        except SourceFailed:
            if found != [2 * number for number in range(50)]:
                raise Wrong(f"after {len(found)} of 50 results") from None
        else:
            raise Wrong(f"no error, {len(found)} results")
