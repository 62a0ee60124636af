"""`serve`: workers on every core that listen on one address, kept alive, restarted and drained."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any, Self

from procoro import arguments, machine
from procoro.server.job import logger
from procoro.server.listeners import Listeners
from procoro.server.places import Place
from procoro.server.settings import BACKLOG, DRAIN, HANDSHAKE, LINE, MESSAGE, Settings, hosts
from procoro.server.tls import Files
from procoro.server.workers import ENDED, ServerWorker, Unborn, end_in_words

__all__ = ["Server", "serve"]

LOOK = 1.0  # seconds, at most, until a signal is seen that came just before a wait, and so did not end it


def serve(
    handler: Callable[[Any], Any],
    host: str | Sequence[str] | None = "127.0.0.1",
    port: int | None = None,
    *,
    path: str | None = None,
    processes: int | None = None,
    model: str | None = None,
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
    client_ca: str | os.PathLike[str] | None = None,
    backlog: int = BACKLOG,
    max_connections: int | None = None,
    max_per_address: int | None = None,
    max_line: int = LINE,
    max_message: int = MESSAGE,
    handshake_timeout: float = HANDSHAKE,
    idle_timeout: float | None = None,
    handler_timeout: float | None = None,
    drain_timeout: float = DRAIN,
    on_start: Callable[[], Any] | None = None,
    on_stop: Callable[[], Any] | None = None,
) -> None:
    """Serve connections until SIGTERM or SIGINT; then those that are open to their end.

    In the main thread, SIGTERM and SIGINT stop it (a second one at once), SIGHUP restarts the workers one by one;
    the handlers that were there come back. For other threads, and for more than waiting, there is `Server`.

    Args:
        handler: called for each connection: `async def handler(conn)`, with a `Connection`; or a plain function with an
            ordinary socket, in a greenlet of its own.
        host, port: where to listen: a name or address, several, or None for all of this machine; port 0 is any that
            is free, None is none, and then there is a `path`. TCP_NODELAY is set.
        path: a Unix socket to listen on, instead or besides.
        processes: workers; None: the cores that this process may use.
        model: "asyncio" or "greenlets"; None: as the handler's kind wants it.
        certfile, keyfile: a certificate with its chain, and its key (None: it is in the same file), in PEM format:
            connections speak TLS. SIGHUP reads them again. client_ca: clients must have a certificate that one of
            these has signed.
        backlog: connections that wait to be accepted, in each worker's listener.
        max_connections: open ones in a worker; then it accepts no more until one ends. None: as many as descriptors
            allow. `max_per_address`: of one address in a worker; more are closed at once.
        max_line, max_message: bytes of what `readline` and `read_exactly` take.
        handshake_timeout: seconds that a TLS handshake may take.
        idle_timeout: seconds that a handler waits and nothing is received, or nothing of what it sends is taken, after
            which its connection is closed. `handler_timeout`: for all of a handler. None: no limit.
        drain_timeout: seconds that open connections are given when a worker is to end: what was received is still
            handed to the handler, then it meets the end; after that, it is cancelled.
        on_start, on_stop: called in each worker before it accepts, and at its end.

    Raises:
        OSError: an address cannot be had, or a file not be read.
        ValueError: no client would take the certificate: it has expired, or the key is not its own.
    """
    given = {name: value for name, value in locals().items() if name not in ("handler", "host", "port")}
    Server(handler, host, port, **given).run()


class Server:
    """A server that is started, asked and stopped by calls. Takes what `serve` takes.

    >>> def echo(conn):
    ...     while data := conn.recv(1024):
    ...         conn.sendall(data)
    >>> with Server(echo, port=0, processes=1) as server:
    ...     host, port = server.addresses[0]
    """

    def __init__(
        self,
        handler: Callable[[Any], Any],
        host: str | Sequence[str] | None = "127.0.0.1",
        port: int | None = None,
        *,
        path: str | None = None,
        processes: int | None = None,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        client_ca: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        self._settings = Settings(handler, **settings)
        self._files = Files(certfile, keyfile, client_ca)
        self._certificates = self._certificates_before = self._files.read()
        workers = machine.cores() if processes is None else arguments.processes(processes)
        self._listeners = Listeners(hosts(host), port, path, self._settings.backlog, workers)
        self._places = [
            Place(partial(self._new_worker, index), self._worker_accepts, self._worker_failed)
            for index in range(workers)
        ]
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._pid = os.getpid()
        self._begun = threading.Lock()  # held as soon as it has been started
        self._all_accept = False  # or did, once
        self._turning = 0  # the thread in which it runs
        self._stopping = False
        self._restarting: Iterator[None] | None = None
        self._restart_again = False  # it was asked for meanwhile
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._ended = threading.Event()

    @property
    def addresses(self) -> list[Any]:
        """Where it listens: (host, port, ...) of each TCP address, and the path."""
        return list(self._listeners.addresses)

    # ---- for the user's thread

    def start(self) -> Self:
        """Start it, in a thread of its own; returns when all workers accept.

        Raises:
            Exception: what `on_start` has raised, or why else a worker could not begin.
        """
        self._begin()
        self._thread = threading.Thread(target=self._turn, name="procoro-server", daemon=True)
        self._thread.start()
        try:
            self._ready.wait()
        except BaseException:  # nobody would stop it
            self._post(lambda: self._stop(now=True))
            raise
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        if not self._all_accept:
            raise RuntimeError("the server was stopped before its workers accepted")
        return self

    def stop(self, now: bool = False) -> None:
        """Accept no more, let open connections end, and return then. `now`: end them at once.

        In a signal handler, while `run` is in the same thread, it returns at once; so does `run` when all have ended.
        """
        if os.getpid() != self._pid:  # in a child that was forked there is nothing to stop
            return
        if self._begun.acquire(blocking=False):  # it has never been started
            self._end()
        self._post(lambda: self._stop(now))
        if self._turning == threading.get_ident():  # a signal handler of the user's, in `run`
            return
        self._ended.wait()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def restart(self) -> None:
        """Replace the workers one by one; each old one ends its connections. Returns at once."""
        self._post(self._restart)

    def stats(self) -> list[dict[str, float]]:
        """Of each worker that accepts: connections accepted and open, bytes received and sent (counted for `async def`
        handlers), errors of handlers, and the lag of its event loop in seconds."""
        return [worker.stats() for place in self._places if (worker := place.worker) is not None]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def run(self) -> None:
        """Serve until it is stopped; in the main thread, also by signals."""
        self._begin()
        with self._signals():
            self._turn()
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        asked: list[int] = []

        def stop(number: int, frame: object) -> None:
            asked.append(number)
            self._post(lambda: self._stop(now=len(asked) > 1))

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: lambda *_: self.restart()}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _begin(self) -> None:
        if not self._begun.acquire(blocking=False):
            raise RuntimeError("a server is started once; it has been started, or stopped, already")

    # ---- its own thread

    def _post(self, event: Callable[[], None]) -> None:
        self._events.put(event)

    def _turn(self) -> None:
        self._turning = threading.get_ident()
        try:
            for place in self._places:
                place.start()
            while not (self._stopping and all(place.is_empty() for place in self._places)):
                self._wait()
        except BaseException as error:
            if self._ready.is_set():  # nobody waits for it to start, who would be told
                logger.exception("procoro: the server has failed")
            self._failure = self._failure or error
        finally:
            self._turning = 0
            self._end()

    def _end(self) -> None:
        try:
            for place in self._places:
                place.end_all()
        finally:
            self._listeners.close()
            self._ended.set()
            self._ready.set()

    def _wait(self) -> None:
        now = monotonic()
        dues = [now + LOOK, *(due for place in self._places if (due := place.due()) is not None)]
        try:
            event = self._events.get(timeout=max(0.0, min(dues) - now))
        except queue.Empty:
            pass
        else:
            event()
        for place in self._places:
            place.look()
        if self._stopping and not any(place.is_accepting() for place in self._places):
            self._listeners.close()  # who comes now is refused, and need not wait for nothing

    def _new_worker(self, index: int, tell: Callable[[ServerWorker, str], None]) -> ServerWorker:
        def post(worker: ServerWorker, news: str) -> None:
            self._post(lambda: tell(worker, news))

        try:
            return ServerWorker(self._settings, self._certificates, self._listeners.of(index), post)
        except Exception as error:
            unborn = Unborn(error)
            post(unborn, ENDED)
            return unborn

    def _stop(self, now: bool) -> None:
        self._stopping = True
        self._restarting = None
        for place in self._places:
            place.finish(now)

    def _restart(self) -> None:
        if self._restarting is not None:
            self._restart_again = True  # those that have been replaced may have come too early for what is new
        elif not self._stopping:
            self._restart_again = False
            before = self._certificates
            try:
                self._certificates = self._files.read()
            except (OSError, ValueError) as error:
                logger.error("procoro: the server is not restarted: %s", error)
                return
            self._restarting = self._one_by_one()
            self._certificates_before = before
            self._go_on()

    def _one_by_one(self) -> Iterator[None]:
        for place in self._places:
            while place.coming is not None:  # it may have come too early for what is new
                yield
            place.start()
            while place.coming is not None:
                yield
            self._certificates_before = self._certificates  # they are in use now

    def _go_on(self) -> None:
        """The next may be restarted."""
        if self._restarting is not None and next(self._restarting, self) is self:
            self._restarting = None
            if self._restart_again:
                self._restart()

    def _worker_accepts(self) -> None:
        if all(place.worker is not None for place in self._places):
            self._all_accept = True
            self._ready.set()
        self._go_on()

    def _worker_failed(self, error: BaseException | None) -> None:
        """It has ended before it accepted."""
        if not self._ready.is_set():
            self._failure = error or RuntimeError("a worker of the server ended before it accepted")
            if not isinstance(self._failure, Exception):  # it would end this program, too
                self._failure = RuntimeError(f"a worker of the server ended before it accepted: {error!r}")
                self._failure.__cause__ = error
            self._stop(now=True)
            return
        logger.error(
            "procoro: a worker of the server ended before it accepted: %s", end_in_words(error), exc_info=error
        )
        if self._restarting is not None:
            self._restarting = None
            self._certificates = self._certificates_before
            logger.error("procoro: the server is not restarted: the old workers go on")
            if self._restart_again:
                self._restart()
