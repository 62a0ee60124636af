"""Messages over a socket pair: whole or not at all, with descriptors passed along.

SEQPACKET keeps the borders of messages, so that neither side ever holds half of one. A message stays small
(`INLINE`): what is larger goes in a block. So two spans and a farewell always fit into the socket's buffer, and
the parent never waits for a worker.
"""

from __future__ import annotations

import array
import socket
import struct
from collections.abc import Sequence

INLINE = 32 * 1024  # bytes of payload in a message
LARGEST = 128 * 1024
MOST_FDS = 16

# Parent to worker
SPAN, QUIT = b"S", b"Q"
# Worker to parent
READY, FAILED_TO_START, LOOK, ENDED, BLOCK, LOG = b"R", b"I", b"P", b"E", b"B", b"L"
# Parent to template, template to parent
START, STARTED, EXITED = b"F", b"W", b"X"

# kind, shape of the calls, packing of the inputs, slot, span, calls, function, length of the library
SPAN_HEAD = struct.Struct("<cBBBQIQQ")
ENDED_HEAD = struct.Struct("<cQId")  # kind, span, calls run, seconds
BLOCK_HEAD = struct.Struct("<cQ")  # kind, the block's number
START_HEAD = struct.Struct("<cQ")  # kind, ticket
STARTED_HEAD = struct.Struct("<cQi")  # kind, ticket, pid
EXITED_HEAD = struct.Struct("<cQi")  # kind, ticket, wait status

# Packing of a span's inputs
PLAIN, EACH, PARTS, IN_BLOCK = 0, 1, 2, 8


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends; neither is inherited by an exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, pieces: Sequence[bytes | memoryview], fds: Sequence[int] = ()) -> None:
    """Send one message. Raises OSError if the other side is gone."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    end.sendmsg(pieces, ancillary)


def receive(end: socket.socket, flags: int = 0) -> tuple[bytes, list[int]]:
    """The next message and its descriptors; an empty one if the other side is gone."""
    arguments = LARGEST, socket.CMSG_SPACE(4 * MOST_FDS), flags | socket.MSG_CMSG_CLOEXEC
    try:
        data, ancillary, _, _ = end.recvmsg(*arguments)
    except ConnectionError:
        # It died without reading all that we sent: that is told first, once, though messages may be left behind it.
        try:
            data, ancillary, _, _ = end.recvmsg(*arguments)
        except ConnectionError:
            return b"", []
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.extend(array.array("i", content[: len(content) - len(content) % 4]))
    return data, fds
