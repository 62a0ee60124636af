"""One call at a time, in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pickle import dumps  # by name: calls may patch the modules
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any

from procoro import kernel
from procoro.wire import codec, record
from procoro.wire.blocks import BIG, Parts
from procoro.wire.exceptions import pack_failure

if TYPE_CHECKING:
    from procoro.worker.loop import Worker

CO_COROUTINE = 0x80  # `inspect` knows it too, and costs 7 ms to import
RING = 0.001  # seconds after which outcomes that the parent has not been told of are announced


def as_plain_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """An `async def` function as one that runs to its end; any other as it is."""
    code = getattr(getattr(function, "func", function), "__code__", None)
    if code is None or not code.co_flags & CO_COROUTINE:
        return function
    import asyncio

    def run_to_the_end(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return run_to_the_end


def run(
    worker: Worker,
    slot: int,
    number: int,
    function: Callable[..., Any],
    shape: int,
    inputs: Sequence[Any],
    load: Callable[[Any], Any] | None,
) -> int:
    """Run the calls of a span until its end, which the parent may draw nearer; how many were run.

    Every outcome is recorded before the next call begins: first its bytes, then, by one store, its cell.
    """
    memory, call = worker.memory, _caller(function, shape, load)
    header, cells, data = memory.header, memory.cells[slot], memory.data[slot]
    end_at, tag = record.ENDS + slot, number << record.SPAN_BITS
    room, position, here = record.DATA - 8 * len(inputs), 0, tag  # always space to name a block
    printed, in_order, big = worker.printed, kernel.STORES_IN_ORDER, False
    rang = clock()
    for given in inputs:
        if header[end_at] <= here:
            break
        kind, body = record.VALUE, b""
        try:
            value = call(given)
        except BaseException as error:
            kind, body = record.FAILURE, _failure(worker, error, given, load, shape)
        else:
            if not big:
                try:
                    body = dumps(value, 3)
                except BaseException:
                    body = b""
            if not body or len(body) > BIG:
                kind, body, big = _awkward(worker, value, body, big)
            value = None
        stop = position + len(body) - (not kind)  # the next one overwrites a pickle's STOP
        if stop >= room:
            kind, body = _into_block(worker, kind, body)
            stop = position + len(body)
        if printed:
            worker.flush()
        data[position : position + len(body)] = body
        position = stop
        if in_order:
            cells[here - tag] = tag | kind << record.END_BITS | stop
        else:
            _commit(memory, slot, here - tag, tag | kind << record.END_BITS | stop)
        here += 1
        now = clock()
        if now - rang > RING:
            rang = now
            worker.look()
    return here - tag


def _caller(function: Callable[..., Any], shape: int, load: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """What runs the function with an input as it came."""
    if shape == codec.ONE:
        return function if load is None else lambda given: function(load(given))
    unpack = load or _as_it_is
    if shape in (codec.STAR, codec.CARRIED):
        return lambda given: function(*unpack(given))

    def full(given: Any) -> Any:
        args, kwargs = unpack(given)
        return function(*args, **kwargs)

    return full


def apply(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function that came with its call."""
    return as_plain_function(function)(*args, **kwargs)


def _as_it_is(given: Any) -> Any:
    return given


def _failure(worker: Worker, error: BaseException, given: Any, load: Callable[[Any], Any] | None, shape: int) -> bytes:
    if os.getpid() != worker.pid:
        raise error  # a call forked, and its child raised: it ends as any program would
    try:
        shown = codec.short(given if load is None else load(given), shape)
    except BaseException:  # the input itself does not unpickle: that is the error
        shown = "..."
    return _pack(error, shown)


def _pack(error: BaseException, shown: str = "...") -> bytes:
    try:
        return pack_failure(error, shown)
    except BaseException as bad:  # its own `__reduce__` or `__str__` wants to exit, say
        from procoro.errors import RemoteError

        name = f"{type(error).__module__}.{type(error).__qualname__}"
        return pack_failure(RemoteError(f"{name}: it cannot be packed: {type(bad).__name__}"), shown)


def _awkward(worker: Worker, value: Any, packed: bytes, was_big: bool) -> tuple[int, bytes, bool]:
    """Record a value that is large, or that C's pickler refuses (`packed` is empty); or perhaps not, if the last
    one was large. Also says whether to expect large ones."""
    try:
        if not packed and not was_big:
            packed = codec.pack_value(value)
            if len(packed) <= BIG:
                return record.VALUE, packed, False
        # Nothing of bytes or a string can stand beside its pickle: it is not pickled again.
        parts = Parts(packed, ()) if packed and type(value) in (bytes, str) else codec.pack_big_value(value)
        if parts.nbytes <= BIG:
            return record.VALUE, codec.pack_value(value), False
    except MemoryError as error:
        return record.FAILURE, _pack(error), False
    except BaseException as error:
        return record.FAILURE, _pack(_refused(value, error)), False
    try:
        return record.BIG_VALUE, worker.put_block(parts), True
    except (OSError, MemoryError) as error:  # no descriptor is free, or no memory
        return record.FAILURE, _pack(error), False


def _refused(value: Any, error: BaseException) -> BaseException:
    from procoro.errors import NotPicklable

    try:
        words = codec.describe_failure_to_pack(value, "result")
    except BaseException:
        words = f"result: {type(value).__name__}: it cannot be pickled: {error!r}"
    refused = NotPicklable(words)
    refused.__cause__ = error
    return refused


def _into_block(worker: Worker, kind: int, body: bytes) -> tuple[int, bytes]:
    """The slot is full, or a failure is large: its bytes go beside it."""
    big = record.BIG_FAILURE if kind in (record.FAILURE, record.BIG_FAILURE) else record.BIG_VALUE
    if kind in (record.BIG_FAILURE, record.BIG_VALUE):
        return kind, body  # it is there already, and its name is 8 bytes: `room` keeps that much
    return big, worker.put_block(Parts(body, ()))


def _commit(memory: record.Record, slot: int, index: int, cell: int) -> None:
    """Where stores may be seen out of order: a system call, which orders them."""
    os.pwrite(memory.fd, cell.to_bytes(8, "little"), record.HEADER + slot * record.SLOT + 8 * index)
