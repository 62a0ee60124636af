"""What is put into a queue or sent through a pipe, as bytes, and back."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from typing import Any

from procoro.errors import NotPicklable
from procoro.wire import blocks

SIZES = struct.Struct("<QQ")  # bytes of the pickle, buffers beside it


def dump(obj: Any, what: str) -> tuple[bytes, Sequence[memoryview]]:
    """The pickle, and the large buffers beside it. `what` it is, for the words of the error.

    Raises:
        procoro.errors.NotPicklable: it cannot travel; the message gives its path.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        body = pickle.dumps(obj, 5, buffer_callback=buffers.append)
        if not buffers:
            return body, ()
        if any(buffer.raw().nbytes < blocks.BIG for buffer in buffers):
            buffers.clear()
            body = pickle.dumps(obj, 5, buffer_callback=blocks.large_buffers(buffers))
    except Exception as error:
        from procoro.wire import codec

        if codec.fails(obj):
            raise NotPicklable(codec.describe_failure_to_pack(obj, what)) from error
        raise NotPicklable(f"{what}: {error}; a call could carry it, here only what `pickle` takes travels") from error
    return body, [buffer.raw() for buffer in buffers]


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
