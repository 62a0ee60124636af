"""Calls of functions that block: greenlets of gevent, in a worker whose template was patched."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import gevent
import greenlet

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
        gevent.config.track_greenlet_tree = False  # for debugging: it takes a fifth of a call's time
        self._hub = gevent.get_hub()
        self._hub.loop.install_sigchld()  # gevent does so behind the first fork: too late if that child ends at once
        self._feed = Feed(worker, lambda function: function, self._ring_later)
        self._heart = Heart(worker.memory, self._call_later)
        self._places = Places(self._feed, places, self._heart, self._start, lambda runner: runner.kill(block=False))
        self._watcher = self._hub.loop.io(self._end.fileno(), READ)
        os.register_at_fork(after_in_child=self._disown)

    def serve(self, message: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
        """As in `crowd.Model`."""
        try:
            while self._places.take_in(message, fds):
                while True:
                    try:
                        message, fds = channel.receive(self._end, channel.DONTWAIT)
                        break
                    except BlockingIOError:
                        self._wait()
        finally:
            self._watcher.stop()
            self._heart.rest()
        return message, fds

    def _wait(self) -> None:
        try:
            self._hub.wait(self._watcher)
        except self._hub.SYSTEM_ERROR:
            pass  # of a greenlet that a call has started: whoever joins that learns of it

    def _ring_later(self, seconds: float) -> None:
        self._call_later(seconds, self._feed.ring_if_due)

    def _call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._hub.loop.timer(seconds).start(call)

    def _start(self) -> None:
        runner = gevent.Greenlet(self._run)
        runner.gr_context = self._feed.context.copy()
        runner.start()

    def _run(self) -> None:
        """One call."""
        call = self._places.begin(gevent.getcurrent())
        if call is None:
            return
        try:
            value = call.run()
            if type(value) is CoroutineType:
                _refuse(value)
        except BaseException as error:
            self._places.raised(call, error, gevent.GreenletExit)
        else:
            self._places.returned(call, value)

    def _disown(self) -> None:
        """In a child that a call has forked: what the call itself starts may run; its neighbours are copies, too."""
        self._watcher.stop()
        greenlet.settrace(Others(self._hub, gevent.getcurrent()))


class Others:
    """Hears of every switch between greenlets: those that were there at a fork, others than the one that forked, never
    run again. Each is left as soon as it is switched to."""

    def __init__(self, hub: Any, own: Any) -> None:
        self._hub = hub
        self._own = own
        self._frozen: set[Any] | None = None  # found when there is a first switch: most children start a program

    def __call__(self, event: str, switch: tuple[Any, Any]) -> None:
        """As in `greenlet.settrace`."""
        if self._frozen is None:
            own = (self._hub, self._own)
            self._frozen = {one for one in gc.get_objects() if isinstance(one, greenlet.greenlet) and one not in own}
        target = switch[1]
        if target.parent is None and target is not self._own:  # nothing is left that could run
            os._exit(1)
        while target in self._frozen:
            self._hub.switch()


def _refuse(coroutine: CoroutineType[Any, Any, Any]) -> None:
    """A plain function has returned it. Of one thread's greenlets, only one at a time could run an event loop."""
    coroutine.close()
    raise TypeError(
        f"the call returned a coroutine of {coroutine.__qualname__}, which greenlets cannot run: give it to a pool "
        'with model="asyncio", or with none'
    )
