"""A socket of the user's as an argument: a copy of its descriptor goes along, as with `multiprocessing`."""

from __future__ import annotations

import os
import pickle
import socket
import weakref
from typing import Any

from procoro.wire import handles


def is_plain(value: object) -> bool:
    """Is it a socket, by the standard library or by gevent, and of no kind of its own? (A program may patch later.)"""
    kind = type(value)
    return kind.__name__ == "socket" and kind.__module__ in ("socket", "gevent._socket3")


class Socket:
    """A copy of a socket, for a process that is still to get it: the caller may close theirs meanwhile."""

    _fd = -1

    def __init__(self, original: socket.socket) -> None:
        self._fd = os.dup(original.fileno())
        self.key = os.fstat(self._fd).st_ino
        self.awaited_by: weakref.WeakSet[Any] = weakref.WeakSet()

    def lend(self) -> list[int]:
        """As in `Handle`."""
        return [os.dup(self._fd)]

    def __del__(self) -> None:
        if self._fd >= 0 and os is not None:  # at the end of the program, modules go before what is in circles
            os.close(self._fd)


def reduce(original: socket.socket) -> Any:
    """How to pack it. Raises PicklingError where only bytes travel, and if it is closed."""
    if original.fileno() < 0:
        raise pickle.PicklingError("it is closed")
    return _arrive, (handles.collect(Socket(original)), original.gettimeout())


def _arrive(key: int, timeout: float | None) -> socket.socket:
    (fd,) = handles.take(key)
    arrived = socket.socket(fileno=os.dup(fd))
    arrived.settimeout(timeout)  # whether it blocks is the same for both sides: they share it
    return arrived
