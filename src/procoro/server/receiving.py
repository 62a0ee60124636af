"""How a connection ends: what has arrived is still received; what was sent is taken, or it is seen that it was not."""

from __future__ import annotations

import _socket
import fcntl
import os
import struct
import sys
import termios
from collections.abc import Callable

FRESH = 0.5  # seconds in which one who has just connected is still heard when a worker is to end
QUIET = 0.1  # seconds in which what has arrived by TLS comes out of it


def arrived(fd: int) -> int:
    """Bytes that the kernel holds for this socket to receive."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
    except OSError:
        return 0  # it is gone


def untaken(fd: int) -> int:
    """Bytes that the kernel holds for the other side to take."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):
        return 0  # it is gone


def shut_receiving(fd: int) -> None:
    """Nothing more is to come by this socket: what has arrived is still received, then it ends."""
    _on_copy(fd, lambda copy: copy.shutdown(_socket.SHUT_RD))


def reset_at_close(fd: int) -> None:
    """Let the other side see, when this socket is closed, that it has not got all."""
    _on_copy(fd, lambda copy: copy.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, struct.pack("ii", 1, 0)))


def _on_copy(fd: int, act: Callable[[_socket.socket], object]) -> None:
    """By a copy, which is not gevent's: its own `shutdown` would end the waits of greenlets by an error."""
    try:
        copy = _socket.socket(fileno=os.dup(fd))
    except OSError:  # it is closed; or no descriptor is free: then it is cut off at the end
        return
    try:
        act(copy)
    except OSError:
        pass  # it is gone
    finally:
        copy.close()
