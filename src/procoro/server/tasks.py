"""A worker whose handler is `async def`: a task a connection, on uvloop."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from time import monotonic
from typing import Any

from procoro.server import counters
from procoro.server.addresses import Addresses
from procoro.server.connection import Connection
from procoro.server.handlers import raised_by
from procoro.server.job import CLOSED, FINISH, READY, Job, leave_signals_to_the_server, logger
from procoro.server.receiving import FRESH
from procoro.worker import copies

LOOK = 0.5  # seconds between two looks for connections whose time is up
LINGER = 30.0  # seconds in which the other side is to take something of what was sent last
CLEAN_UP = 5.0  # seconds that a handler is given to end, before it is cancelled again


async def serve(job: Job) -> None:
    """The life of the worker: until it is told to finish, and all its connections have ended."""
    await Tasks(job).run()


class Tasks:
    """All connections of a worker."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.settings = job.settings
        self.cells = job.counters.cells
        self.loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self.is_secure = job.certificates is not None  # by TLS
        self._context = None if job.certificates is None else job.certificates.context()
        self.now = monotonic()  # as of the last look
        self._connections: set[Connection] = set()  # open ones, and those whose handlers still run
        # Whose handler has returned: bytes left at the last look, and until when something of them is to be taken
        self._lingering: dict[Connection, tuple[int, float]] = {}
        self._addresses = Addresses(job.settings.max_per_address)
        self._servers: list[asyncio.Server] = []
        self._accepting: asyncio.Task[None] | None = None
        self._finishing = False
        self._emptied: asyncio.Future[None] | None = None  # done when the last connection is gone

    async def run(self) -> None:
        """As `serve`."""
        leave_signals_to_the_server()
        if self.settings.on_start is not None:
            await _called(self.settings.on_start)
        if self.job.may_accept():
            await self._accept()
        looking = self.loop.create_task(self._look())
        await self.job.control.asend(READY)
        try:
            while await self.job.control.arecv() != FINISH:
                pass
        except EOFError:  # the server is gone
            pass
        self._finishing = True
        self._stop_accepting()
        for listener in self.job.listeners:
            listener.close()
        with suppress(OSError):  # the server is gone
            await self.job.control.asend(CLOSED)
        await self._drain()
        looking.cancel()
        if self.settings.on_stop is not None:
            await _called(self.settings.on_stop)

    # ------------------------------------------------------------------------------------- accepting

    async def _accept(self) -> None:
        """By uvloop's own servers, which take one connection each time the loop turns: so a limit is never passed."""
        protocol = Connection if self._context is None else Unsecured
        for listener in self.job.listeners:
            own = socket.socket(fileno=socket.dup(listener.fileno()))
            backlog = self.settings.backlog  # uvloop would set one of its own
            self._servers.append(await self.loop.create_server(lambda: protocol(self), sock=own, backlog=backlog))

    def _stop_accepting(self) -> None:
        """Who connects waits in the listener that the server keeps."""
        if self._accepting is not None:
            self._accepting.cancel()
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()

    def _accept_again(self) -> None:
        """If there is room."""
        busy = self._servers or self._finishing or (self._accepting is not None and not self._accepting.done())
        if not busy and len(self._connections) < self.settings.max_connections:
            self._accepting = self.loop.create_task(self._try_to_accept())

    async def _try_to_accept(self) -> None:
        try:
            await self._accept()
        except OSError as error:  # no descriptor is free; the next look tries again
            logger.warning("procoro: a worker of the server accepts nothing for now: %s", error)
            self._stop_accepting()

    def opened(self, connection: Connection, own: socket.socket | None = None) -> None:
        """A connection has come; by this socket, if it is still to speak TLS."""
        self.cells[counters.ACCEPTED] += 1
        self.cells[counters.OPEN] += 1
        self._connections.add(connection)
        if not self._addresses.enter(connection.peername):
            connection.abort()
            if own is not None:
                own.close()
                self.closed(connection)
            return
        connection.task = self.loop.create_task(self._handle(connection, own))
        if len(self._connections) >= self.settings.max_connections:
            self._stop_accepting()

    def closed(self, connection: Connection) -> None:
        """A connection is gone. If its handler still runs, it is here until that has ended."""
        if connection not in self._connections or connection.is_handled():
            return
        self._connections.discard(connection)
        self._lingering.pop(connection, None)
        self.cells[counters.OPEN] -= 1
        self._addresses.leave(connection.peername)
        if self._emptied is not None and not self._connections and not self._emptied.done():
            self._emptied.set_result(None)
        if not self._servers:
            self._accept_again()

    async def _handle(self, connection: Connection, own: socket.socket | None) -> None:
        if own is not None and not await self._shakes_hands(connection, own):
            connection.task = None
            self.closed(connection)
            return
        failed: BaseException | None = None
        try:
            await self.settings.handler(connection)
            if os.getpid() != self._pid:
                copies.leave(None)
        except BaseException as error:
            if os.getpid() != self._pid:  # the handler has forked, and this is the child: it is no second worker
                copies.leave(error)
            ended = isinstance(error, asyncio.CancelledError) and connection.cancelled_at is not None
            if not (ended or (isinstance(error, ConnectionError) and raised_by(error, connection))):
                failed = error
                self.cells[counters.ERRORS] += 1
            if not isinstance(error, Exception):
                connection.abort()
        connection.task = None
        connection.close()
        if connection.is_gone():
            self.closed(connection)
        else:
            self._lingering[connection] = -1, monotonic() + LINGER
        self.job.log_end(connection.peername, failed, monotonic() - connection.began)
        failed = None  # in a circle with its traceback

    def accepted(self, own: socket.socket) -> None:
        """A connection has come that is to speak TLS."""
        connection = Connection(self)
        try:
            connection.peername = own.getpeername()
        except OSError:  # it is gone again
            own.close()
            return
        self.opened(connection, own)

    async def _shakes_hands(self, connection: Connection, own: socket.socket) -> bool:
        """Is there TLS on it? If not, the connection is gone."""
        try:
            await self.loop.connect_accepted_socket(
                lambda: connection, own, ssl=self._context, ssl_handshake_timeout=self.settings.handshake_timeout
            )
        except BaseException as error:
            own.close()
            if isinstance(error, (OSError, asyncio.CancelledError)):  # as those of TLS are; or the end has come
                self.job.log_no_tls(connection.peername, error)
            else:
                self.cells[counters.ERRORS] += 1
                self.job.log_end(connection.peername, error, monotonic() - connection.began)
            return False
        if self._finishing:
            self.loop.call_later(FRESH, connection.shut_receiving)
        return True

    # --------------------------------------------------------------------------------- time, the end

    async def _look(self) -> None:
        due = self.loop.time() + LOOK
        while True:
            await asyncio.sleep(max(0.0, due - self.loop.time()))
            self.cells[counters.LAG] = int(max(0.0, self.loop.time() - due) * counters.MICROSECONDS)
            due = self.loop.time() + LOOK
            for _ in range(2):  # what arrived while somebody held up the loop, is heard first
                await asyncio.sleep(0)
            self.now = monotonic()
            self._accept_again()
            self._look_at_the_lingering()
            if self.settings.idle_timeout is None and self.settings.handler_timeout is None:
                continue
            for connection in list(self._connections):
                if connection.is_handled() and self._is_over(connection):
                    self._cancel(connection)

    def _look_at_the_lingering(self) -> None:
        for connection, (before, until) in list(self._lingering.items()):
            left = connection.left()
            if left != before:
                self._lingering[connection] = left, self.now + LINGER
            elif self.now > until:
                connection.reset()

    def _is_over(self, connection: Connection) -> bool:
        """Is its time up?"""
        handling, idle = self.settings.handler_timeout, self.settings.idle_timeout
        if handling is not None and self.now - connection.began > handling:
            return True
        return idle is not None and connection.idle(self.now) > idle

    def _cancel(self, connection: Connection) -> None:
        """End its handler; one that cleans up is left in peace for a while."""
        before = connection.cancelled_at
        if connection.task is not None and (before is None or self.now - before > CLEAN_UP):
            connection.cancelled_at = self.now
            connection.task.cancel()

    async def _drain(self) -> None:
        await asyncio.sleep(0)  # who has been accepted by now, comes in
        for connection in self._connections:
            if not connection.received:
                self.loop.call_later(FRESH, connection.shut_receiving)
            else:
                connection.shut_receiving()
        until = self.loop.time() + self.settings.drain_timeout
        tasks = {connection.task for connection in self._connections if connection.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=self.settings.drain_timeout)
            late = {connection.task: connection for connection in self._connections if connection.task is not None}
            for connection in late.values():
                self._cancel(connection)
            if late:
                await asyncio.wait(late, timeout=1.0)
        while self._connections:  # what was sent last is being taken
            self._emptied = self.loop.create_future()
            await asyncio.wait([self._emptied], timeout=1.0)
            if self.loop.time() >= until or not any(connection.left() for connection in self._connections):
                break


class Unsecured(asyncio.Protocol):
    """A connection before its handshake: uvloop's servers would not tell of one that is slow, or fails."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take its socket before anything is read from it."""
        own = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        own.setblocking(False)
        transport.abort()  # type: ignore[attr-defined]  # of any that servers give
        self._tasks.accepted(own)


async def _called(hook: Any) -> None:
    value = hook()
    if hasattr(type(value), "__await__"):
        await value
