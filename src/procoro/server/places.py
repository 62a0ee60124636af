"""One of a server's places: who accepts from its listeners, who is about to, and who is ending."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from procoro.server.job import CLOSED, READY, logger
from procoro.server.workers import ENDED, ServerWorker, end_in_words

LIVED = 1.0  # seconds: a worker that dies younger is replaced after a pause,
PAUSE = 0.05  # which doubles each time,
LONGEST_PAUSE = 2.0  # up to this


class Place:
    """`new` starts a worker, which tells its news to what it is given. `accepts` and `failed` are called when one
    accepts, and when one has ended before it did."""

    def __init__(
        self,
        new: Callable[[Callable[[ServerWorker, str], None]], ServerWorker],
        accepts: Callable[[], None],
        failed: Callable[[BaseException | None], None],
    ) -> None:
        self._new = new
        self._accepts = accepts
        self._failed = failed
        self._ending: list[ServerWorker] = []
        self._again_at: float | None = None
        self._pause = 0.0
        self._stopping = False
        self.worker: ServerWorker | None = None
        self.coming: ServerWorker | None = None

    def start(self) -> None:
        """Start a worker, unless one is coming; it takes over when it is ready."""
        self._again_at = None
        if self.coming is None:
            self.coming = self._new(self.told)

    def told(self, worker: ServerWorker, news: str) -> None:
        """A worker has news."""
        if news == READY and worker is self.coming:
            before, self.worker, self.coming = self.worker, worker, None
            if before is not None:
                self._let_go(before)
            self._accepts()
        elif news == CLOSED:
            worker.is_accepting = False
        elif news == ENDED:
            self._lost(worker)

    def _lost(self, worker: ServerWorker) -> None:
        error = worker.close()
        if worker in self._ending:
            self._ending.remove(worker)
            if error is not None and not worker.was_ended:
                logger.error(
                    "procoro: a worker of the server did not end well: %s", end_in_words(error), exc_info=error
                )
            return
        young = monotonic() - worker.began < LIVED
        self._pause = min(max(PAUSE, 2 * self._pause), LONGEST_PAUSE) if young else 0.0
        if worker is self.coming:
            self.coming = None
            self._failed(error)
        else:
            self.worker = None
            logger.warning("procoro: a worker of the server is replaced: %s", end_in_words(error))
        if self.worker is None and self.coming is None and not self._stopping:
            self._again_at = monotonic() + self._pause

    def _let_go(self, worker: ServerWorker) -> None:
        self._ending.append(worker)
        worker.finish()

    def finish(self, now: bool) -> None:
        """Let all end; at once, if asked so."""
        self._stopping = True
        self._again_at = None
        if self.worker is not None:
            self._let_go(self.worker)
        if self.coming is not None:
            self._let_go(self.coming)
            if not self.coming.has_begun():  # it may take long, and has no connections
                self.coming.end()
        self.worker = self.coming = None
        for worker in self._ending if now else ():
            worker.end()

    def due(self) -> float | None:
        """When to look again."""
        dues = [worker.ends_at for worker in self._ending if worker.ends_at is not None]
        return min(dues if self._again_at is None else [*dues, self._again_at], default=None)

    def look(self) -> None:
        """Do what is due."""
        if self._again_at is not None and monotonic() >= self._again_at:
            self.start()
        for worker in self._ending:
            if worker.ends_at is not None and monotonic() >= worker.ends_at:
                logger.warning("procoro: a worker of the server has not ended in time: it is ended now")
                worker.end()

    def is_accepting(self) -> bool:
        """Does one of those that are ending still accept?"""
        return any(worker.is_accepting for worker in self._ending)

    def is_empty(self) -> bool:
        """Have all its workers ended?"""
        return self.worker is None and self.coming is None and not self._ending

    def end_all(self) -> None:
        """End what is left."""
        for worker in (self.worker, self.coming, *self._ending):
            if worker is not None:
                worker.close()
        self.worker = self.coming = None
        self._ending.clear()
