"""Values as one message: in it where they are small, in a block beside it where they are large."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from procoro import kernel
from procoro.wire import blocks, channel
from procoro.wire.blocks import Parts

WITHIN, BESIDE = b"w", b"b"


def pack(parts: Sequence[Parts]) -> tuple[bytes, list[int]]:
    """Pickles, and the large buffers that stand outside of them, as a message's body, and the descriptors beside it.

    The caller closes these when they are sent. Raises OSError if a block finds no room.
    """
    within: list[bytes] = []
    size = 0
    for part in parts:  # plainly: a process with one call pays for each function that it has not called before
        within.append(part.body)
        size += len(part.body)
        if part.buffers:
            size = channel.INLINE + 1
    if size <= channel.INLINE:
        return WITHIN + pickle.dumps(within, 5), []
    return BESIDE, [blocks.write_parts(parts)]


def send(end: channel.End, kind: bytes, parts: Sequence[Parts]) -> None:
    """Send them as one message of this kind. Raises OSError if the other side is gone, or a block finds no room."""
    body, fds = pack(parts)
    try:
        channel.send(end, [kind, body], fds)
    finally:
        kernel.close_all(fds)


def unpack(message: bytes, fds: Sequence[int]) -> list[Callable[[], Any]]:
    """For each pickle of a message, what unpickles it. Raises OSError if no descriptor was free for its block."""
    if message[1:2] == BESIDE:
        return blocks.read_parts(blocks.map_received(fds))
    return [partial(pickle.loads, body) for body in pickle.loads(message[2:])]
