"""A worker whose handler is a plain function: a greenlet a connection, by gevent's own server."""

from __future__ import annotations

import errno
import os
import select
import socket
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gevent.ssl import SSLError, SSLSocket

from procoro import kernel
from procoro.server import counters
from procoro.server.addresses import Addresses
from procoro.server.handlers import raised_by, refuse_awaitable
from procoro.server.job import CLOSED, FINISH, READY, Job, leave_signals_to_the_server
from procoro.server.receiving import FRESH, QUIET, arrived, shut_receiving
from procoro.worker import copies

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
        self._context = None if job.certificates is None else job.certificates.context()
        if self._context is not None:
            self._context.sslsocket_class = SecureSocket
        self._pool = Pool(self.settings.max_connections)  # full: its servers stop accepting
        self._sockets: dict[socket.socket, float] = {}  # and since when they are here
        self._addresses = Addresses(job.settings.max_per_address)
        self._finishing = False

    def run(self) -> None:
        """As `serve`."""
        leave_signals_to_the_server()
        if self.settings.on_start is not None:
            refuse_awaitable(self.settings.on_start())
        servers = [StreamServer(listener, self._handle, spawn=self._pool) for listener in self.job.listeners]
        for server in servers if self.job.may_accept() else ():
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
        with suppress(OSError):  # the server is gone
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
            refuse_awaitable(self.settings.on_stop())

    def _handle(self, connection: socket.socket, peer: Any) -> None:
        cells, began = self.cells, monotonic()
        cells[counters.ACCEPTED] += 1
        cells[counters.OPEN] += 1
        failed: BaseException | None = None
        try:
            if self._addresses.enter(peer):
                secured = self._secured(connection, peer)
                if secured is None:
                    return
                connection = secured
                self._serve(connection)
        except gevent.GreenletExit:
            pass
        except BaseException as error:
            failed = error
            cells[counters.ERRORS] += 1
        finally:
            cells[counters.OPEN] -= 1
            self._addresses.leave(peer)
            connection.close()
        self.job.log_end(peer, failed, monotonic() - began)
        failed = (
            None  # in a circle with its traceback: files that the handler has made of the socket would keep it open
        )

    def _secured(self, connection: socket.socket, peer: Any) -> socket.socket | None:
        """The connection by which the handler speaks; None: TLS was not possible."""
        if self._context is None:
            return connection
        secured: socket.socket = connection
        try:
            secured = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            self._enter(secured)
            with gevent.Timeout(self.settings.handshake_timeout, TimeoutError("the handshake took too long")):
                secured.do_handshake()
        except BaseException as error:
            self._sockets.pop(secured, None)
            secured.close()
            if not isinstance(error, OSError):  # as those of TLS are
                raise
            self.job.log_no_tls(peer, error)
            return None
        return secured

    def _enter(self, connection: socket.socket) -> None:
        self._sockets[connection] = monotonic()
        if self._finishing:  # it has come last
            gevent.spawn_later(FRESH, self._shut, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(self.settings.idle_timeout)
            self._enter(connection)
            with gevent.Timeout(self.settings.handler_timeout, False):
                self._call(connection)
            if isinstance(connection, SecureSocket):
                connection.say_the_end()
        except OSError as error:
            if not self._is_its_end(connection, error):
                raise
        finally:
            self._sockets.pop(connection, None)
            connection.close()

    def _is_its_end(self, connection: socket.socket, error: OSError) -> bool:
        """Does it only say that this connection is closed, the other side gone, or the time up?"""
        if isinstance(error, TimeoutError):
            return self.settings.idle_timeout is not None and raised_by(error, connection)
        if isinstance(error, (ConnectionError, SSLError)) or error.errno == errno.ENOTCONN:
            # It may come out of a copy, of C, or of another greenlet: these leave no trace.
            return raised_by(error, connection) or _is_gone(connection)
        return connection.fileno() < 0 and raised_by(error, connection)

    def _call(self, connection: socket.socket) -> None:
        pid = os.getpid()
        try:
            refuse_awaitable(self.settings.handler(connection))
        except BaseException as error:
            if os.getpid() != pid:  # the handler has forked, and this is the child: it is no second worker
                copies.leave(error)
            raise
        if os.getpid() != pid:
            copies.leave(None)

    def _shut(self, connection: socket.socket) -> None:
        if connection not in self._sockets or connection.fileno() < 0:  # its handler has closed it, or taken it over
            return
        if isinstance(connection, SecureSocket):
            connection.shut_receiving()
        else:
            shut_receiving(connection.fileno())

    def _look(self) -> None:
        while True:
            began = monotonic()
            gevent.sleep(LOOK)
            self.cells[counters.LAG] = int(max(0.0, monotonic() - began - LOOK) * counters.MICROSECONDS)


class SecureSocket(SSLSocket):  # type: ignore[misc]  # gevent has no types
    """A socket that speaks TLS, with an end that is told to it and by it."""

    _to_come: int | None = None  # bytes, at most; None: as many as are sent

    def shut_receiving(self) -> None:
        """Nothing more is to come: what has arrived is still received, then it ends."""
        # Where a socket is shut, TLS takes that for a broken connection, and nothing could be answered.
        self._to_come = self.pending() + arrived(self.fileno())
        gevent.get_hub().cancel_wait(self._read_event, _NoMore())

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002
        """As in SSLSocket, by which all other methods receive."""
        if self._to_come is None:
            try:
                return super().read(len, buffer)
            except _NoMore:
                pass
        found: Any = None
        if self._to_come:
            with gevent.Timeout(QUIET, False):
                found = super().read(len, buffer)
        nothing: bytes | int = b"" if buffer is None else 0
        self._to_come = max(0, (self._to_come or 0) - _size(found)) if found else 0
        return found or nothing

    def say_the_end(self) -> None:
        """By TLS, whose end is not that of the connection; without waiting for an answer."""
        self.settimeout(0)
        try:
            self.unwrap()
        except (OSError, ValueError):  # it wants to wait; or the connection is closed
            pass


class _NoMore(ConnectionAbortedError):
    """The wait for more is ended. In a handshake there was none."""


def _size(found: bytes | int) -> int:
    return found if isinstance(found, int) else len(found)


def _is_gone(connection: socket.socket) -> bool:
    """Is it closed here, or the other side gone?"""
    fd = connection.fileno()
    if fd < 0:
        return True
    poll = kernel.original("select", "poll")()
    poll.register(fd, 0)
    return any(what & (select.POLLHUP | select.POLLERR) for _, what in poll.poll(0))
