"""Calls of functions that block: greenlets of gevent, in a worker whose template was patched."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from socket import MSG_DONTWAIT
from typing import TYPE_CHECKING, Any

import gevent

from procoro.wire import channel
from procoro.worker.crowd import Feed, Places
from procoro.worker.heart import Heart

if TYPE_CHECKING:
    from procoro.worker.loop import Worker

READ = 1


class Model:
    """As in `crowd.Model`. `places`: how many calls run at once."""

    def __init__(self, worker: Worker, places: int) -> None:
        self._end = worker.end
        self._hub = gevent.get_hub()
        self._feed = Feed(worker, lambda function: function, self._ring_later)
        self._heart = Heart(worker.memory, self._call_later)
        self._places = Places(self._feed, places, self._heart, self._start, lambda greenlet: greenlet.kill(block=False))

    def serve(self, message: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
        """As in `crowd.Model`."""
        watcher = self._hub.loop.io(self._end.fileno(), READ)
        try:
            while self._places.take_in(message, fds):
                while True:
                    try:
                        message, fds = channel.receive(self._end, MSG_DONTWAIT)
                        break
                    except BlockingIOError:
                        self._hub.wait(watcher)
        finally:
            watcher.close()
            self._heart.rest()
        return message, fds

    def finish(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """As in `crowd.Model`."""
        import asyncio

        asyncio.run(coroutine)

    def _ring_later(self, seconds: float) -> None:
        self._call_later(seconds, self._feed.ring)

    def _call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._hub.loop.timer(seconds).start(call)

    def _start(self) -> None:
        greenlet = gevent.Greenlet(self._run)
        greenlet.gr_context = self._feed.context.copy()
        greenlet.start()

    def _run(self) -> None:
        """One call."""
        call = self._places.begin(gevent.getcurrent())
        if call is None:
            return
        try:
            value = call.run()
        except BaseException as error:
            self._places.raised(call, error, gevent.GreenletExit)
        else:
            self._places.returned(call, value)
