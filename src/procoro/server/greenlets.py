"""A worker whose handler is a plain function: a greenlet a connection, by gevent's own server."""

from __future__ import annotations

import select
import socket
from collections import Counter
from time import monotonic
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer

from procoro import kernel
from procoro.server import counters
from procoro.server.job import (
    CLOSED,
    FINISH,
    FRESH,
    READY,
    Job,
    address_of,
    leave_signals_to_the_server,
    shut_receiving,
)

LOOK = 0.5


def serve(job: Job) -> None:
    """The life of the worker: until it is told to finish, and all its connections have ended."""
    Greenlets(job).run()


class Greenlets:
    """All connections of a worker."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.settings = job.settings
        self.cells = job.counters.cells
        self._pool = Pool(self.settings.max_connections)  # full: its servers stop accepting
        self._sockets: dict[socket.socket, float] = {}  # and since when they are here
        self._by_address: Counter[Any] = Counter()
        self._finishing = False

    def run(self) -> None:
        """As `serve`."""
        leave_signals_to_the_server()
        if self.settings.on_start is not None:
            self.settings.on_start()
        servers = [StreamServer(listener, self._handle, spawn=self._pool) for listener in self.job.listeners]
        for server in servers:
            server.start()
        looking = gevent.spawn(self._look)
        self.job.control.send(READY)
        try:
            while self.job.control.recv() != FINISH:
                pass
        except EOFError:  # the server is gone
            pass
        self._finishing = True
        for server in servers:
            server.close()  # our copies: who connects waits in the listener that the server keeps
        self.job.control.send(CLOSED)
        for one, since in self._sockets.items():
            if monotonic() - since < FRESH:
                gevent.spawn_later(FRESH, self._shut, one)
            else:
                self._shut(one)
        self._pool.join(timeout=self.settings.drain_timeout)
        self._pool.kill(timeout=1.0)
        looking.kill()
        if self.settings.on_stop is not None:
            self.settings.on_stop()

    def _handle(self, connection: socket.socket, peer: Any) -> None:
        cells, began = self.cells, monotonic()
        cells[counters.ACCEPTED] += 1
        cells[counters.OPEN] += 1
        address = address_of(peer)
        self._by_address[address] += 1
        failed: BaseException | None = None
        try:
            if not address or self._by_address[address] <= (self.settings.max_per_address or self._by_address[address]):
                self._serve(connection)
        except gevent.GreenletExit:
            pass
        except BaseException as error:
            failed = error
            cells[counters.ERRORS] += 1
        finally:
            cells[counters.OPEN] -= 1
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
            connection.close()
        self.job.log_end(peer, failed, monotonic() - began)

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(self.settings.idle_timeout)
            self._sockets[connection] = monotonic()
            if self._finishing:
                gevent.spawn_later(FRESH, self._shut, connection)
            with gevent.Timeout(self.settings.handler_timeout, False):
                self.settings.handler(connection)
        except OSError as error:
            if not (_is_gone(connection) or (isinstance(error, TimeoutError) and self.settings.idle_timeout)):
                raise
        finally:
            self._sockets.pop(connection, None)
            connection.close()

    def _shut(self, connection: socket.socket) -> None:
        if connection in self._sockets:
            shut_receiving(connection.fileno())

    def _look(self) -> None:
        while True:
            began = monotonic()
            gevent.sleep(LOOK)
            self.cells[counters.LAG] = int(max(0.0, monotonic() - began - LOOK) * counters.MICROSECONDS)


def _is_gone(connection: socket.socket) -> bool:
    """Is the other side gone? Then that is no error of the handler's."""
    fd = connection.fileno()
    if fd < 0:
        return True
    poll = kernel.original("select", "poll")()
    poll.register(fd, 0)
    return any(what & (select.POLLHUP | select.POLLERR) for _, what in poll.poll(0))
