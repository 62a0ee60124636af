"""One worker of a server, as the server sees it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING

from procoro.errors import WorkerDied, describe_exit
from procoro.ipc.pipes import Pipe
from procoro.pool import Pool
from procoro.server.counters import BEGUN, Counters
from procoro.server.job import FINISH, Job
from procoro.server.settings import Settings
from procoro.server.start import serve_greenlets, serve_tasks
from procoro.server.tls import Certificates

if TYPE_CHECKING:
    from procoro.server.listeners import Listener

LEAVING = 3.0  # seconds, beyond the drain timeout, after which a worker that does not end is ended
ENDED = "ended"  # what is told of it, besides what it says itself


class ServerWorker:
    """A worker, which is in one call as long as it lives: a pool of one runs that, and tells how it ends."""

    def __init__(
        self,
        settings: Settings,
        certificates: Certificates | None,
        listeners: Sequence[Listener],
        tell: Callable[[ServerWorker, str], None],
    ) -> None:
        self.began = monotonic()
        self.ends_at: float | None = None  # when it is to be ended, if it has not by then
        self.is_accepting = True
        self.was_ended = False
        self._drain_timeout = settings.drain_timeout
        self._tell = tell
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()  # of the counters, which other threads read
        self._counters: Counters | None = None
        self._control, self._theirs = Pipe()
        with ExitStack() as undo:  # the handler cannot travel, or no descriptor is free
            undo.callback(self._let_go)
            self._counters = Counters()
            self._pool = Pool(1, model="asyncio" if settings.is_async else "greenlets", concurrency=1)
            undo.callback(self._pool.terminate)
            job = Job(settings, certificates, listeners, self._theirs, self._counters)
            self._result = self._pool.submit(serve_tasks if settings.is_async else serve_greenlets, job)
            self._listener = threading.Thread(target=self._listen, name="procoro-server-worker", daemon=True)
            self._listener.start()
            undo.pop_all()
        self._result.add_done_callback(lambda _: self._tell(self, ENDED))

    def _listen(self) -> None:
        try:
            while True:
                self._tell(self, self._control.recv())
        except (EOFError, OSError):
            pass  # it has ended, which is told otherwise

    def finish(self) -> None:
        """Let it accept no more, and end when its connections have."""
        self.ends_at = monotonic() + self._drain_timeout + LEAVING
        try:
            self._control.send(FINISH)
        except (OSError, EOFError):
            pass  # it is dead

    def has_begun(self) -> bool:
        """May it have accepted? If not, and it was told to finish, it never will."""
        with self._lock:
            return self._counters is not None and self._counters.cells[BEGUN] == 1

    def end(self) -> None:
        """End it now."""
        self.ends_at = None
        self.was_ended = True
        self._result.kill()

    def stats(self) -> dict[str, float]:
        """As `Server.stats`."""
        with self._lock:
            if self._counters is not None:
                self._last = self._counters.read()
            return self._last

    def close(self) -> BaseException | None:
        """It has ended, or is to; how."""
        from concurrent.futures import CancelledError

        self._pool.terminate()
        try:
            error = self._result.exception()
        except CancelledError as cancelled:
            error = cancelled
        # A process that a handler has forked may hold the other end: that is not to keep who listens.
        end = socket.socket(fileno=self._control.fileno())
        try:
            end.shutdown(socket.SHUT_RDWR)
        finally:
            end.detach()
        self._listener.join()
        self._let_go()
        return error

    def _let_go(self) -> None:
        self._control.close()
        self._theirs.close()
        with self._lock:
            counters, self._counters = self._counters, None
            if counters is not None:
                self._last = counters.read()
                counters.close()


class Unborn(ServerWorker):
    """One that could not be made: it ends at once, as one would that cannot begin."""

    def __init__(self, error: Exception) -> None:
        self.began = monotonic()
        self.ends_at = None
        self.is_accepting = self.was_ended = False
        self._error = error

    def finish(self) -> None:
        """As of any other."""

    def has_begun(self) -> bool:
        """As of any other."""
        return False

    def end(self) -> None:
        """As of any other."""

    def close(self) -> BaseException | None:
        """As of any other."""
        return self._error


def end_in_words(error: BaseException | None) -> str:
    """How a worker has ended; of its call nobody has heard."""
    if type(error) is WorkerDied:
        return f"worker {error.pid} {describe_exit(error.exitcode)}{error.hint}"
    return "it ended by itself" if error is None else f"{type(error).__name__}: {error}"
