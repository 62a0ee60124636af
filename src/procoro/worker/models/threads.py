"""Calls of functions that wait, or that let go of the GIL: threads."""

from __future__ import annotations

import os
import queue
import select
import threading
from time import perf_counter as clock
from typing import TYPE_CHECKING

from procoro.wire import channel
from procoro.worker import calling, state
from procoro.worker.crowd import Call, Feed

if TYPE_CHECKING:
    from procoro.worker.loop import Worker


class Model:
    """As in `crowd.Model`. `places`: how many threads there may be; one is started when no other is idle."""

    def __init__(self, worker: Worker, places: int) -> None:
        self._end = worker.end
        self._places = places
        self._lock = threading.Lock()  # of the feed, and of the counts
        self._feed = Feed(worker, calling.as_plain_function, self._ring_later)
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()  # one for each call that has come
        self._threads = 0
        self._idle = 0
        self._ring_at: float | None = None
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._end, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def serve(self, message: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
        """As in `crowd.Model`. A message that asks for the end of a call never comes: a thread cannot be ended."""
        while True:
            with self._lock:
                count = self._feed.take_in(message, fds)
                missing = min(self._feed.waiting - self._idle, self._places - self._threads)
            if count < 0:
                return message, fds
            self._start(missing)
            for _ in range(count):
                self._tokens.put(None)
            message, fds = self._receive()

    def _start(self, count: int) -> None:
        for _ in range(count):
            name = f"{state.name}_{self._threads}"
            try:
                threading.Thread(target=self._work, name=name, daemon=True).start()
            except RuntimeError:  # no more can be started
                if not self._threads:
                    raise
                return
            self._threads += 1
            with self._lock:
                self._idle += 1

    def _receive(self) -> tuple[bytes, list[int]]:
        """The next message; meanwhile, ring when it is time."""
        while True:
            ring_at = self._ring_at
            wait = None if ring_at is None else max(0.0, ring_at - clock()) * 1000
            for fd, _ in self._poll.poll(wait):
                if fd == self._end.fileno():
                    return channel.receive(self._end)
                os.eventfd_read(self._wake)
            if ring_at is not None and clock() >= ring_at:
                with self._lock:
                    self._ring_at = None
                    self._feed.ring_if_due()

    def _ring_later(self, seconds: float) -> None:
        self._ring_at = clock() + seconds
        os.eventfd_write(self._wake, 1)

    def _work(self) -> None:
        """The life of a thread."""
        while True:
            self._tokens.get()
            with self._lock:
                self._idle -= 1
                call = self._feed.begin()
            if call is not None:
                self._feed.context.copy().run(self._run, call)
                del call  # with its input, and the function
            with self._lock:
                self._idle += 1

    def _run(self, call: Call) -> None:
        try:
            kind, body = self._outcome(call)
            with self._lock:
                self._feed.end(call, kind, body)
        except BaseException as error:
            self._feed.give_up(error)

    def _outcome(self, call: Call) -> tuple[int, bytes]:
        try:
            value = call.run()
        except BaseException as error:
            return self._feed.pack_failure(call, error)
        return self._feed.pack(call, value)
