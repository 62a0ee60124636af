"""Standard input and output, kept for rows alone when the command reads or writes them.

A worker has the caller's standard streams, and so has the user's module in this process. A `print` of theirs
would stand between the rows, an `input()` would take some away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class StreamClosed(Exception):
    """The caller closed a standard stream that is needed; the message says which."""


@contextmanager
def keep_input() -> Iterator[int]:
    """Yield a descriptor of standard input, which the taker closes. Until the end, others find it empty.

    Raises:
        StreamClosed: standard input is closed.
    """
    if sys.stdin is None:
        raise StreamClosed("standard input is closed")
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        with _kept(0, meanwhile=null) as ours:
            yield ours
    finally:
        os.close(null)


@contextmanager
def keep_output() -> Iterator[int]:
    """Yield a descriptor of standard output, which the taker closes. Until the end, prints go to stderr.

    Raises:
        StreamClosed: standard output is closed.
    """
    if sys.stdout is None:
        raise StreamClosed("standard output is closed")
    sys.stdout.flush()
    with _kept(1, meanwhile=2) as ours:
        try:
            yield ours
        finally:
            sys.stdout.flush()


@contextmanager
def _kept(number: int, meanwhile: int) -> Iterator[int]:
    saved = os.dup(number)
    try:
        os.dup2(meanwhile, number)
        yield os.dup(saved)
    finally:
        os.dup2(saved, number)
        os.close(saved)
