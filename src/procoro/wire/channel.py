"""Messages over a socket pair: whole or not at all, with descriptors passed along.

SEQPACKET keeps the borders of messages, so that neither side ever holds half of one. A message stays small
(`INLINE`): what is larger goes in a block. So what a serial worker is sent, two spans and a farewell, always fits into
the socket's buffer. The parent never waits for a worker: messages that find no room are kept, and sent again.
"""

from __future__ import annotations

import _socket
import array
import struct
from collections.abc import Sequence

from procoro import kernel

End = _socket.socket  # where gevent has patched, `socket.socket` is its own

INLINE = 32 * 1024  # bytes of payload in a message
LARGEST = 120 * 1024  # a buffer of 128 KiB would be mapped anew for each message: 6 µs of 9
MOST_FDS = 253  # the kernel's own bound
SPACE = _socket.CMSG_SPACE(4 * MOST_FDS)
CLOEXEC, DONTWAIT = _socket.MSG_CMSG_CLOEXEC, _socket.MSG_DONTWAIT  # not `socket`'s: enums take a microsecond to join
SOCKET, RIGHTS = _socket.SOL_SOCKET, _socket.SCM_RIGHTS

# Parent to worker; a span whose calls run beside each other, and the order to end one of them
INITIALIZE, SPAN, QUIT, CROWD, END_CALL = b"N", b"S", b"Q", b"M", b"K"
# Worker to parent
READY, FAILED_TO_START, LOOK, ENDED, BLOCK, LOG = b"R", b"I", b"P", b"E", b"B", b"L"
ENDED_AND_LEFT = b"e"  # and nothing looks into its block any more
CROWDS_ENDED, CROWD_CUT = b"D", b"d"
# Either way: the descriptors of a handle, for the next message; to a worker: for its inputs
HANDLE, INPUT_HANDLE = b"H", b"h"
# Parent to a process with one call: the call, and whether anybody has asked for its outcome
CALL, ASKED, UNASKED = b"C", b"A", b"U"
# Back: its target has returned, has raised (and wants to know whether anybody asked), or has called `sys.exit`
RETURNED, RAISED, LEFT = b"V", b"N", b"O"
# Parent to template (modules to import; the caller's state, for processes with one call; for a worker; for such a
# process; a signal for one), template to parent
PREPARE, STATE, START, START_PROCESS, SIGNAL, STARTED, EXITED = b"Z", b"T", b"F", b"G", b"Y", b"W", b"X"

# kind, shape of the calls, packing of the inputs, slot, span, calls; places in the library: of the function, of its
# contents
SPAN_HEAD = struct.Struct("<cBBHQIQQ")
INITIALIZE_HEAD = struct.Struct("<cQ")  # kind, place in the library of its contents
END_CALL_HEAD = struct.Struct("<cQI")  # kind, span, call
CROWD_CUT_HEAD = struct.Struct("<cQI")  # kind, span, calls that have begun
CROWD_ENDED = struct.Struct("<QId")  # span, calls run, seconds of all of them
ENDED_HEAD = struct.Struct("<cQId")  # kind, span, calls run, seconds
BLOCK_HEAD = struct.Struct("<cQ")  # kind, the block's number
START_HEAD = struct.Struct("<cQ")  # kind, ticket
SIGNAL_HEAD = struct.Struct("<cii")  # kind, pid, number
STARTED_HEAD = struct.Struct("<cQi")  # kind, ticket, pid
EXITED_HEAD = struct.Struct("<cQi")  # kind, ticket, wait status

# Packing of a span's inputs
PLAIN, EACH, PARTS, TEXTS, IN_BLOCK = 0, 1, 2, 4, 8


def pair() -> tuple[End, End]:
    """Two connected ends that block, whatever default time-out the user has set; neither is inherited by an exec.

    None of them is taken for a standard stream that is closed; nor is a descriptor that is opened after them.
    """
    ends = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    if min(ends[0].fileno(), ends[1].fileno()) < 3:
        for end in ends:
            end.close()
        kernel.occupy_standard()
        return pair()
    if _socket.getdefaulttimeout() is not None:
        for end in ends:
            end.setblocking(True)
    return ends


def adopt(fd: int) -> End:
    """The end with this descriptor. (Without these constants, the kernel is asked for each.)"""
    return End(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)


def send(end: End, pieces: Sequence[bytes | memoryview], fds: Sequence[int] = (), flags: int = 0) -> None:
    """Send one message. Raises OSError if the other side is gone."""
    ancillary = [(SOCKET, RIGHTS, array.array("i", fds))] if fds else []
    end.sendmsg(pieces, ancillary, flags)


def receive(end: End, flags: int = 0) -> tuple[bytes, list[int]]:
    """The next message and its descriptors; an empty one if the other side is gone."""
    flags |= CLOEXEC
    try:
        data, ancillary, _, _ = end.recvmsg(LARGEST, SPACE, flags)
    except ConnectionError:
        # It died without reading all that we sent: that is told first, once, though messages may be left behind it.
        try:
            data, ancillary, _, _ = end.recvmsg(LARGEST, SPACE, flags)
        except ConnectionError:
            return b"", []
    return data, descriptors(ancillary) if ancillary else []


def descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came with a message."""
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == SOCKET and kind == RIGHTS:
            fds += array.array("i", content[: len(content) & -4])
    return fds
