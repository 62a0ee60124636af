"""Calls of `async def` functions: tasks of one event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from contextvars import Context
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from procoro.wire import channel
from procoro.worker.crowd import Feed, Places
from procoro.worker.heart import Heart

if TYPE_CHECKING:
    from procoro.worker.loop import Worker


class Model:
    """As in `crowd.Model`. `places`: how many calls run at once."""

    def __init__(self, worker: Worker, places: int) -> None:
        self._end = worker.end
        self._loop = _new_loop()
        self._feed = Feed(worker, lambda function: function, self._ring_later)
        self._heart = Heart(worker.memory, self._loop.call_later)
        self._places = Places(self._feed, places, self._heart, self._start, asyncio.Task.cancel)
        self._other: tuple[bytes, list[int]] | None = None  # a message that is not for a model
        self._is_copy = False
        os.register_at_fork(after_in_child=self._disown)

    def serve(self, message: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
        """As in `crowd.Model`."""
        self._other = None
        self._places.take_in(message, fds)
        self._loop.add_reader(self._end, self._read)
        os.set_blocking(self._end.fileno(), True)  # libuv has changed that; what we send is not to fail for it
        try:
            while self._other is None:
                try:
                    self._loop.run_forever()  # until this is known; or a call has stopped it
                except (KeyboardInterrupt, SystemExit):
                    pass  # of a task that a call has started: whoever awaits that gets it, too
        finally:
            self._loop.remove_reader(self._end)
            self._heart.rest()
        if self._other[0][:1] == channel.QUIT:
            self._close()
        return self._other

    def finish(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> None:
        """Run the initializer to its end; calls get what it sets in this context."""
        self._feed.context = context
        self._loop.run_until_complete(self._loop.create_task(coroutine, context=context))

    def _ring_later(self, seconds: float) -> None:
        self._loop.call_later(seconds, self._feed.ring_if_due)

    def _read(self) -> None:
        while not self._is_copy:
            try:
                message, fds = channel.receive(self._end, channel.DONTWAIT)
            except BlockingIOError:
                return
            if not self._places.take_in(message, fds):
                self._other = message, fds
                self._loop.remove_reader(self._end)  # the loop may turn once more: what comes next is not to be read
                self._loop.stop()
                return

    def _start(self) -> None:
        self._loop.create_task(self._run(), context=self._feed.context.copy())

    async def _run(self) -> None:
        """One call."""
        call = self._places.begin(asyncio.current_task(self._loop))
        if call is None:
            return
        try:
            value = call.run()
            if type(value) is CoroutineType or hasattr(type(value), "__await__"):
                value = await value
        except BaseException as error:
            self._places.raised(call, error, asyncio.CancelledError)
        else:
            self._places.returned(call, value)

    def _disown(self) -> None:
        """In a child that a call has forked: if it awaits, all its neighbours' copies would run. It ends there."""
        self._is_copy = True
        self._loop.call_soon(os._exit, 1)

    def _close(self) -> None:
        """As `asyncio.run` does at its end."""
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # it does not install everywhere
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop
