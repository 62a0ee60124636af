"""What is put into a queue or sent through a pipe, as bytes, and back.

What is of `__main__` brings the functions and classes along that it needs, and their globals, if these are small: who
gets it may be a process that has never heard of them.
"""

from __future__ import annotations

import functools
import io
import itertools
import pickle
import struct
import types
from collections.abc import Sequence
from typing import Any

from procoro.errors import NotPicklable
from procoro.wire import blocks, handles, sockets, twin

SIZES = struct.Struct("<QQ")  # bytes of the pickle, buffers beside it


def plain(obj: Any) -> bytes | None:
    """Its pickle, if that is all there is to it, the same to all processes; None: it is for `dump`."""
    try:
        body = pickle.dumps(obj, 5, buffer_callback=_refuse)
    except Exception:  # there are buffers in it, or handles; or it cannot travel
        return None
    if body.find(twin.STACK_GLOBAL) < 0 or type(obj) is str:
        return body
    return body if twin.stands_alone(body) and not handles.is_collecting() else None


def _refuse(buffer: pickle.PickleBuffer) -> None:
    raise pickle.PicklingError


def dump(obj: Any, what: str) -> tuple[bytes, Sequence[memoryview]]:
    """The pickle, and the large buffers beside it. `what` it is, for the words of the error.

    Raises:
        procoro.errors.NotPicklable: it cannot travel; the message gives its path.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        body = _dumps(obj, buffers)
    except Exception as error:
        from procoro.wire.packer import refusal

        only_here = NotPicklable(f"{what}: {error}; a call could carry it, here only what `pickle` takes travels")
        raise refusal([(what, obj)]) or only_here from error
    return body, [buffer.raw() for buffer in buffers]


def _dumps(obj: Any, buffers: list[pickle.PickleBuffer]) -> bytes:
    try:
        body = pickle.dumps(obj, 5, buffer_callback=blocks.large_buffers(buffers))
    except Exception:
        pass  # there may be a socket in it
    else:
        if type(obj) is str or twin.stands_alone(body):
            return body
    return _with_names(obj, buffers)


def _with_names(obj: Any, buffers: list[pickle.PickleBuffer]) -> bytes:
    buffers.clear()
    file = io.BytesIO()
    pickler = _Pickler(file, 5, buffer_callback=blocks.large_buffers(buffers))
    pickler.dump(obj)
    body = file.getvalue()
    if twin.CONNECTION in body or twin.ASYNCIO in body:
        twin.dumps(obj)  # raises if it would arrive, and be of no use
    if not pickler.names:
        return body
    needed = _packer.definitions(pickler.names, again=False, lenient=True)
    _packer.keep_code()
    small = [one for one in needed if len(one.data) <= blocks.BIG]  # the large would go with each item
    if handles.is_collecting():
        for handle in itertools.chain(*(one.handles for one in small)):
            handles.collect(handle)
    return _supplying(tuple((one.name, one.data) for one in small)) + body


@functools.lru_cache(64)
def _supplying(definitions: tuple[tuple[str, bytes], ...]) -> bytes:
    """What stands in front of a value, in one pickle with it.

    It must put nothing into the memo, to which the value counts on from 0.
    """
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5)
    pickler.fast = True
    pickler.dump(_Supply(definitions))
    return file.getvalue()[:-1] + pickle.POP


class _Pickler(pickle.Pickler):
    """Notes the names of `__main__` by which it packs classes and functions."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.names: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        """As in `pickle.Pickler`."""
        if isinstance(obj, NAMED) and obj.__module__ in twin.MAIN:
            self.names.add(obj.__qualname__.partition(".")[0])
        elif sockets.is_plain(obj):
            return sockets.reduce(obj)
        return NotImplemented


class _Supply:
    def __init__(self, definitions: tuple[tuple[str, bytes], ...]) -> None:
        self.definitions = definitions

    def __reduce__(self) -> Any:
        return twin.supply, (self.definitions,)


_packer = twin.Packer()
NAMED = (type, types.FunctionType, type(functools.lru_cache(int)))  # what is packed by its name


def join(body: bytes, views: Sequence[memoryview]) -> list[bytes | memoryview]:
    """Both as the pieces of one row of bytes, for `load`."""
    sizes = struct.pack(f"<{len(views)}Q", *(view.nbytes for view in views))
    return [SIZES.pack(len(body), len(views)) + sizes, body, *views]


def load(data: bytes | bytearray | memoryview) -> Any:
    """What was dumped and joined; its buffers look into `data`."""
    view = memoryview(data)
    length, count = SIZES.unpack_from(view)
    sizes = struct.unpack_from(f"<{count}Q", view, SIZES.size)
    start = SIZES.size + 8 * count
    at = start + length
    buffers = []
    for size in sizes:
        buffers.append(view[at : at + size])
        at += size
    return pickle.loads(view[start : start + length], buffers=buffers)
