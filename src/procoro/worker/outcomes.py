"""What a call has come to, as bytes for the record."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from procoro.wire import record
from procoro.wire.blocks import BIG, Parts
from procoro.wire.exceptions import add_note, pack_failure
from procoro.wire.inputs import short
from procoro.wire.values import pack_big_value, pack_value

if TYPE_CHECKING:
    from procoro.worker.loop import Span, Worker

# Seconds after which outcomes that the parent has not been told of are announced, where a packet takes longer than it
# should. (It wakes for that: every 4 ms, that takes 1-2 % of two cores.)
RING = 0.055


def failure(worker: Worker, error: BaseException, at: int, span: Span) -> bytes:
    """The exception of a call, packed."""
    if os.getpid() != worker.pid:
        raise error  # a call forked, and its child raised: it ends as any program would
    try:
        shown = short(span.given(at), span.shape)
    except BaseException:  # the input itself does not unpickle: that is the error
        shown = "..."
        add_note(error, "the input could not be unpickled in the worker: the function was not called")
    return _pack(error, shown)


def _pack(error: BaseException, shown: str = "...") -> bytes:
    try:
        return pack_failure(error, shown)
    except BaseException as bad:  # its own `__reduce__` or `__str__` wants to exit, say
        from procoro.errors import RemoteError

        name = f"{type(error).__module__}.{type(error).__qualname__}"
        return pack_failure(RemoteError(f"{name}: it cannot be packed: {type(bad).__name__}"), shown)


def awkward(worker: Worker, value: Any, packed: bytes, was_big: bool, at: int, span: Span) -> tuple[int, bytes, bool]:
    """Pack a value that is large, or that C's pickler refused (`packed` is empty), or that was not tried because the
    last one was large: its kind, its bytes, and whether to expect large ones."""
    if isinstance(value, Coroutine):  # of a plain function that returned it
        import asyncio

        try:
            if asyncio._get_running_loop() is None:  # else it has forgotten an `await`, and that is said below
                value, packed = asyncio.run(value), b""
        except BaseException as error:
            return record.FAILURE, failure(worker, error, at, span), False
    try:
        if not packed and not was_big:
            packed = pack_value(value)
            if len(packed) <= BIG:
                return record.VALUE, packed, False
        # Nothing of bytes or a string can stand beside its pickle: it is not pickled again.
        parts = Parts(packed, ()) if packed and type(value) in (bytes, str) else pack_big_value(value)
        if parts.nbytes <= BIG:
            return record.VALUE, pack_value(value), False
    except MemoryError as error:
        return record.FAILURE, _pack(error), False
    except BaseException as error:
        return record.FAILURE, _pack(refused(value, error)), False
    try:
        return record.BIG_VALUE, worker.put_block(parts), True
    except (OSError, MemoryError) as error:  # no descriptor is free, or no memory
        return record.FAILURE, _pack(error), False


def refused(value: Any, error: BaseException) -> BaseException:
    """What to say of a value that cannot travel back."""
    from procoro.errors import NotPicklable

    try:
        from procoro.wire import refusals

        words = refusals.describe(value, "result")
    except BaseException:
        words = f"result: {type(value).__name__}: it cannot be pickled: {error!r}"
    refused = NotPicklable(words)
    refused.__cause__ = error
    return refused


def fit(worker: Worker, kind: int, body: bytes) -> tuple[int, bytes]:
    """As it is, or beside the record if it is large."""
    if len(body) <= BIG:
        return kind, body
    try:
        return into_block(worker, kind, body)
    except (OSError, MemoryError) as error:  # no descriptor is free, or no memory
        return record.FAILURE, _pack(error)


def into_block(worker: Worker, kind: int, body: bytes) -> tuple[int, bytes]:
    """The slot is full, or a failure is large: its bytes go beside it."""
    if kind in (record.BIG_FAILURE, record.BIG_VALUE):
        return kind, body  # it is there already, and its name is 8 bytes: `room` keeps that much
    big = record.BIG_FAILURE if kind == record.FAILURE else record.BIG_VALUE
    return big, worker.put_block(Parts(body, ()))
