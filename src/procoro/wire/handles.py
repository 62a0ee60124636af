"""Handles of what lives in the kernel (queues, locks, ends of pipes) travel as descriptors beside the bytes.

Whoever packs a value collects the handles in it; they are kept until the value has been sent or dropped, and their
descriptors go in messages of their own, before the value. Whoever unpacks takes them from among those that arrived.
"""

from __future__ import annotations

import os
import pickle
import struct
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from procoro.wire import channel

HEAD = struct.Struct("<cQB")  # kind, key, descriptors


class Handle(Protocol):
    """What can travel."""

    key: int  # the same in every process
    awaited_by: weakref.WeakSet[Any]  # what holds it for a process that is still to get it

    def lend(self) -> list[int]:
        """Descriptors for another process, which the caller closes when they are sent."""


class _Here(threading.local):
    collected: list[Handle] | None = None


here = _Here()  # what this thread collects while it pickles; None: nobody would send it
_arrived: dict[int, list[int]] = {}
_for_life: dict[int, list[int]] = {}


@contextmanager
def collecting() -> Iterator[list[Handle]]:
    """The handles in what this thread pickles meanwhile."""
    found: list[Handle] = []
    before, here.collected = here.collected, found
    try:
        yield found
    finally:
        here.collected = before


def collect(handle: Handle) -> int:
    """Called while a handle is pickled: the key under which it will be found."""
    if here.collected is None:
        raise pickle.PicklingError(
            f"a {type(handle).__name__} travels as an argument of a call or a process, or through a Pipe: "
            "only there can its descriptors go with it"
        )
    if not any(one is handle for one in here.collected):
        here.collected.append(handle)
    return handle.key


def send(
    end: channel.End,
    handles: Iterable[Handle],
    kind: bytes = channel.HANDLE,
    send: Callable[[channel.End, list[bytes], list[int]], None] = channel.send,
) -> None:
    """Send the descriptors of each, before the message with the value that holds them."""
    for handle in handles:
        fds = handle.lend()
        try:
            send(end, [HEAD.pack(kind, handle.key, len(fds))], fds)
        finally:
            _close(fds)


def arrive(message: bytes, fds: Sequence[int]) -> int:
    """Take one in; its key. It can be taken until `forget`, or for as long as this process lives."""
    kind, key, count = HEAD.unpack(message)
    kept = _for_life if kind == channel.HANDLE_FOR_LIFE else _arrived
    if len(fds) != count:  # no descriptor was free: who takes it is told
        _close(fds)
    else:
        _close(kept.pop(key, ()))
        kept[key] = list(fds)
    return int(key)


def forget(keys: Iterable[int]) -> None:
    """What has not been taken will not be."""
    for key in keys:
        _close(_arrived.pop(key, ()))


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def take(key: int) -> list[int]:
    """The descriptors of a handle that arrived; they stay those of this module: reopen, or duplicate them."""
    fds = _arrived.get(key) or _for_life.get(key)
    if fds is None:
        raise EOFError(
            "a queue, lock or pipe came without its descriptors: none was free here, or it came by a way on which "
            "only bytes travel"
        )
    return fds


@contextmanager
def arriving(arrived: Sequence[tuple[int, Sequence[int]]]) -> Iterator[None]:
    """These have come with what is unpickled meanwhile: keys and descriptors."""
    before = {key: _arrived.pop(key) for key, _ in arrived if key in _arrived}
    _arrived.update((key, list(fds)) for key, fds in arrived)
    try:
        yield
    finally:
        forget(key for key, _ in arrived)
        _arrived.update(before)
