"""What the faults share: how a pool is opened, and what is asked of it afterwards."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.faults import calls
from benchmarks.faults.systems import Adapter, NotOffered


class Wrong(Exception):
    """The system went on, but not as it should; the words go into the table."""


@contextmanager
def opened(system: type[Adapter], **options: Any) -> Iterator[Adapter]:
    """A pool of two workers. To leave it belongs to what must go well; after a failure nobody waits for that."""
    pool = system(2, **options)
    yield pool
    pool.leave()


def error_of(attempt: Callable[[], object]) -> BaseException:
    """The exception that the attempt must end with."""
    try:
        value = attempt()
    except NotOffered:
        raise
    except (Exception, SystemExit) as error:
        return error
    raise Wrong(f"no error, but {value!r:.40}")


def goes_on(pool: Adapter) -> None:
    """Four more calls have their right values."""
    found = pool.outcomes(calls.double, range(4))
    for error in errors_in(found):
        raise error
    if found != [0, 2, 4, 6]:
        raise Wrong(f"later calls gave {found!r:.60}")


def errors_in(found: list[Any]) -> list[BaseException]:
    return [one for one in found if isinstance(one, BaseException)]


def words_of(error: BaseException) -> str:
    """The text of an error, its notes, and of what caused it. No tracebacks: they quote our own source."""
    texts = [str(error), *getattr(error, "__notes__", ())]
    cause = error.__cause__ or error.__context__
    return "\n".join([*texts, words_of(cause)] if cause else texts)


def wait_until(condition: Callable[[], Any], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
