"""`multiprocessing.JoinableQueue`, which knows when a consumer has died of its item."""

from __future__ import annotations

from time import monotonic
from typing import TypeVar

from procoro.errors import ConsumerDied
from procoro.ipc.queues import Queue
from procoro.ipc.rings import CONSUMERS, DONE, JOINERS_NEWS, JOINERS_SLEEP, PUT, TAKEN
from procoro.ipc.table import Table
from procoro.ipc.waiting import LOOK, Sleeper, Waiting, ring_bell, sleep_until, wait

T = TypeVar("T")
MIDDLE = 1 << 40  # what a process has in hand is counted from here on: it may have done more than it took


class JoinableQueue(Queue[T]):
    """A `Queue` that knows what of it is still being worked on."""

    _WORDS = 4096
    _counts = True

    def _prepare(self) -> None:
        super()._prepare()
        self._table = Table(self._words, CONSUMERS)
        self._mine: int | None = None  # our entry

    def _count_taken(self) -> None:
        # In the entry of a process: what it took, less what it has done, from a number that is never reached.
        self._add(1)

    def _add(self, count: int) -> None:
        if self._mine is None:
            self._mine = self._table.mine()  # this process may have had the queue before
        if self._mine is None:
            self._wake_joiners()  # to watch this process, too
            self._mine = self._table.add(MIDDLE)
        self._table.set(self._mine, self._table.value(self._mine) + count)

    def _dropped(self) -> None:
        self._wake_joiners()
        self._add(-1)
        self._words[DONE] += 1

    def _wake_joiners(self) -> None:
        """For the reader, before what they are to see: who wakes waits for that."""
        if self._words[JOINERS_SLEEP]:
            self._words[JOINERS_NEWS] += 1
            ring_bell(self._bell)
            self._words[JOINERS_SLEEP] = 0

    def task_done(self) -> None:
        """An item that was taken has been worked on.

        Raises:
            ValueError: more often than items were put.
        """
        self._check_open()
        interrupted = self._reader.acquire_surely()
        try:
            if self._words[DONE] >= self._words[TAKEN]:
                raise ValueError("task_done() called too many times")
            if self._words[DONE] + 1 == self._words[PUT]:
                self._wake_joiners()
            self._words[DONE] += 1
            self._add(-1)
        finally:
            self._reader.release()
        if interrupted is not None:
            raise interrupted

    def join(self) -> None:
        """Wait until all that was put has been worked on.

        Raises:
            procoro.errors.ConsumerDied: a process died between `get` and `task_done`.
        """
        sleep_until(self._joining())

    async def ajoin(self) -> None:
        """As `join`, to be awaited."""
        await wait(self._joining())

    def _joining(self) -> Waiting[None]:
        self._check_open()
        with Sleeper(self._bell, None) as sleeper:
            while self._words[DONE] != self._words[PUT]:
                yield from self._turn(self._reader, None)
                try:
                    consumers = self._consumers()
                    self._words[JOINERS_SLEEP] = 1
                    news = self._words[JOINERS_NEWS]
                finally:
                    self._reader.release()
                if self._words[DONE] == self._words[PUT]:
                    return
                if not sleeper.watch(consumers):
                    continue
                until = monotonic() + LOOK
                yield sleeper
                while sleeper.only_rung and self._words[JOINERS_NEWS] == news and monotonic() < until:
                    yield sleeper  # it rang for others: as in `Guarded`

    def _consumers(self) -> list[int]:
        """For the reader: who takes items. Raises if one is dead that worked on one."""
        alive = [entry for entry in self._table.entries() if self._table.is_alive(entry)]
        held = sum(self._table.value(entry) - MIDDLE for entry in alive)
        held += sum(min(0, self._table.value(entry) - MIDDLE) for entry in self._table.dead())  # done for others
        lost = self._words[TAKEN] - self._words[DONE] - max(0, held)
        if lost > 0:
            dead = sorted({self._table.pid(entry) for entry in self._table.dead()})
            raise ConsumerDied(
                f"{self!r}: {lost} item{'s' if lost > 1 else ''} taken by who died before task_done()"
                + (f" (process {', '.join(map(str, dead))})" if dead else "")
            )
        return [self._table.pid(entry) for entry in alive]
