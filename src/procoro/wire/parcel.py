"""Values as one message: in it where they are small, in a block beside it where they are large."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from procoro.wire import blocks, channel
from procoro.wire.blocks import Parts

WITHIN, BESIDE = b"w", b"b"


def pack(parts: Sequence[Parts]) -> tuple[bytes, list[int]]:
    """Pickles, and the large buffers that stand outside of them, as a message's body, and the descriptors beside it.

    The caller closes these when they are sent. Raises OSError if a block finds no room.
    """
    if sum(part.nbytes for part in parts) <= channel.INLINE and not any(part.buffers for part in parts):
        return WITHIN + pickle.dumps([part.body for part in parts], 5), []
    return BESIDE, [blocks.write_parts(parts)]


def send(end: channel.End, kind: bytes, parts: Sequence[Parts]) -> None:
    """Send them as one message of this kind. Raises OSError if the other side is gone, or a block finds no room."""
    body, fds = pack(parts)
    try:
        channel.send(end, [kind, body], fds)
    finally:
        for fd in fds:
            os.close(fd)


def unpack(message: bytes, fds: Sequence[int]) -> list[Callable[[], Any]]:
    """For each pickle of a message, what unpickles it. Raises OSError if no descriptor was free for its block."""
    if message[1:2] == BESIDE:
        return blocks.read_parts(blocks.map_received(fds))
    return [partial(pickle.loads, body) for body in pickle.loads(message[2:])]
