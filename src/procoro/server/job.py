"""What a worker of a server is sent: the call that it is in as long as it lives."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from procoro.server import counters
from procoro.server.counters import Counters
from procoro.server.settings import Settings
from procoro.server.tls import Certificates

if TYPE_CHECKING:
    from procoro.ipc.pipes import Connection as Control

logger = logging.getLogger("procoro.server")
access = logging.getLogger("procoro.server.access")

# What the server says, and what its worker says
FINISH = "finish"
READY, CLOSED = "ready", "closed"  # it accepts; it accepts no more


def leave_signals_to_the_server() -> None:
    """What stops a service, or closes a terminal, often signals all its processes: the server decides about us."""
    # A handler that does nothing: SIG_IGN would be inherited by programs that handlers start.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)


class Job:
    """What a worker of the server is given."""

    def __init__(
        self,
        settings: Settings,
        certificates: Certificates | None,
        listeners: Sequence[Any],
        control: Control,
        counters: Counters,
    ) -> None:
        self.settings = settings
        self.certificates = certificates  # None: there is no TLS
        self.listeners: Sequence[socket.socket] = listeners  # in the worker; Listeners here
        self.control = control
        self.counters = counters

    def may_accept(self) -> bool:
        """To be asked before it accepts. No: it is to finish, and may be ended at any time.

        First it says that it has begun, and then it looks. The server first says that it is to finish, and then looks
        whether it had begun: so at least one of them sees what the other has done.
        """
        self.counters.cells[counters.BEGUN] = 1
        return not self.control.poll()

    def log_no_tls(self, peer: object, error: BaseException) -> None:
        """A handshake has failed: of a client that does not trust us, or is none; that is not for an error's log."""
        logger.info("procoro: no TLS with %s: %r", peer, error)

    def log_end(self, peer: object, error: BaseException | None, seconds: float) -> None:
        """A connection has ended."""
        if error is not None:
            logger.error("procoro: the handler of %s raised %r", peer, error, exc_info=error)
        if access.isEnabledFor(logging.INFO):
            access.info("%s %s %.3f s", peer, "failed" if error is not None else "ok", seconds)
