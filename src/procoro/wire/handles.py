"""Handles of what lives in the kernel (queues, locks, ends of pipes) travel as descriptors beside the bytes.

Whoever packs a value collects the handles in it; they are kept until the value has been sent or dropped, and their
descriptors go in messages of their own, before the value. Whoever unpacks takes them from among those that arrived.
"""

from __future__ import annotations

import pickle
import struct
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from procoro import kernel
from procoro.wire import channel

HEAD = struct.Struct("<cQIB")  # kind, key, inputs that hold it, descriptors


class Handle(Protocol):
    """What can travel."""

    key: int  # the same in every process
    awaited_by: weakref.WeakSet[Any]  # what holds it for a process that is still to get it

    def lend(self) -> list[int]:
        """Descriptors for another process, which the caller closes when they are sent."""


Arrived = tuple[int, list[int]]  # the key of a handle, and its descriptors; none, if there was no room for them


class _Here(threading.local):
    collected: list[Handle] | None = None  # what this thread collects while it pickles; None: nobody would send it
    arrived: Mapping[int, list[int]] = {}  # what has come with what it unpickles
    again = False  # does it unpickle an input once more?


here = _Here()
farewells: list[Callable[[], None]] = []  # to be said by a worker that ends well, which runs no exit functions


# ----------------------------------------------------------------------------------------- the sending side


@contextmanager
def collecting() -> Iterator[list[Handle]]:
    """The handles in what this thread pickles meanwhile."""
    found: list[Handle] = []
    before, here.collected = here.collected, found
    try:
        yield found
    finally:
        here.collected = before


def is_collecting() -> bool:
    """Are the handles in what this thread pickles sent along? Else only bytes travel."""
    return here.collected is not None


def collect(handle: Handle) -> int:
    """Called while a handle is pickled: the key under which it will be found."""
    if here.collected is None:
        raise pickle.PicklingError(ways_of(handle))
    if not any(one is handle for one in here.collected):
        here.collected.append(handle)
    return handle.key


def ways_of(handle: Handle) -> str:
    """On which it can travel, in words."""
    return (
        f"a {type(handle).__name__} travels as an argument of a call or a process, or through a Pipe: "
        "only there can its descriptors go with it"
    )


def send(
    say: Callable[[list[bytes], list[int]], None], handles: Iterable[Handle], uses: Mapping[int, int] | None = None
) -> None:
    """Send the descriptors of each, by `say(pieces, descriptors)`, before the message with what holds them.

    `uses`: they are in inputs of calls, each in so many, by their keys. None: in what is unpickled at once.
    """
    kind = channel.HANDLE if uses is None else channel.INPUT_HANDLE
    for handle in handles:
        fds = handle.lend()
        try:
            say([HEAD.pack(kind, handle.key, uses[handle.key] if uses else 0, len(fds))], fds)
        finally:
            kernel.close_all(fds)


class Input:
    """Stands, in a pickle, for an input with handles in it: once it is unpickled, it needs them no more."""

    def __init__(self, value: Any, found: list[Handle]) -> None:
        self.value = value
        self.keys = _Keys(found)

    def __reduce__(self) -> tuple[Callable[[Any, list[int]], Any], tuple[Any, _Keys]]:
        return _unpickled, (self.value, self.keys)


class _Keys:
    """Of the handles that have been collected by the time when this is pickled."""

    def __init__(self, found: list[Handle]) -> None:
        self.found = found

    def __reduce__(self) -> tuple[type, tuple[list[int]]]:
        return list, (list({one.key for one in self.found}),)


# --------------------------------------------------------------------------------------- the receiving side


def arrive(message: bytes, fds: Sequence[int]) -> Arrived:
    """What has come, for `arriving`."""
    _, key, _, count = HEAD.unpack(message)
    if len(fds) == count:
        return key, list(fds)
    kernel.close_all(fds)  # no descriptor was free: who takes it is told
    return key, []


@contextmanager
def arriving(arrived: Sequence[Arrived]) -> Iterator[None]:
    """These have come with what this thread unpickles meanwhile. They are closed at its end."""
    before, here.arrived = here.arrived, dict(arrived)
    try:
        yield
    finally:
        here.arrived = before
        close(arrived)


def close(arrived: Iterable[Arrived]) -> None:
    """They will not be taken."""
    for _, fds in arrived:
        kernel.close_all(fds)


def take(key: int) -> list[int]:
    """The descriptors of a handle that arrived; they stay those of this module: reopen, or duplicate them."""
    fds = here.arrived.get(key)
    if fds is None and not here.again and (lent := _inputs.get(key)) is not None:
        fds = lent.fds
    if not fds:
        raise EOFError(
            "a queue, lock, pipe or socket came without its descriptors: none was free here, or it came by a way on "
            "which only bytes travel"
        )
    return fds


class _Lent:
    """The descriptors of a handle, as long as inputs that hold it are to be unpickled."""

    __slots__ = ("fds", "inputs", "spans")

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.inputs = 0  # that hold it, and have not been unpickled
        self.spans = 0  # with which it came, and that have not ended


_inputs: dict[int, _Lent] = {}
_lock = threading.Lock()  # of the counts


def arrive_for_inputs(message: bytes, fds: Sequence[int]) -> int:
    """Keep what has come until all inputs that hold it have been unpickled, or until `forget`; its key."""
    _, key, inputs, _ = HEAD.unpack(message)
    _, mine = arrive(message, fds)
    with _lock:
        lent = _inputs.setdefault(key, _Lent())
        lent.inputs += inputs
        lent.spans += 1
        if not lent.fds:
            lent.fds, mine = mine, []
    kernel.close_all(mine)  # those that are here are the same, and may just be taken
    return int(key)


@contextmanager
def once_more() -> Iterator[None]:
    """An input is unpickled again, just to be looked at: that is not counted, and takes nothing."""
    here.again = True
    try:
        yield
    finally:
        here.again = False


def _unpickled(value: Any, keys: list[int]) -> Any:
    for key in () if here.again else keys:
        with _lock:
            lent = _inputs[key]
            lent.inputs -= 1
            unneeded: list[int] = []
            if not lent.inputs:
                unneeded, lent.fds = lent.fds, []
        kernel.close_all(unneeded)
    return value


def forget(keys: Iterable[int]) -> None:
    """A span has ended that came with these."""
    for key in keys:
        with _lock:
            lent = _inputs[key]
            lent.spans -= 1
            if lent.spans:
                continue
            del _inputs[key]
        kernel.close_all(lent.fds)
