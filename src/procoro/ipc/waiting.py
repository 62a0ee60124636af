"""One way to wait, and three doors to it: blocking, awaiting, and as a greenlet.

Whatever waits is written as a generator that yields a `Sleeper` whenever there is nothing to do but to sleep; it
looks at the state of things again each time it is woken. `block` and `wait` run such a generator.

A bell is an eventfd that nobody ever reads: each sleeper has an epoll of its own on it, edge-triggered, so one write
wakes all of them in all processes, and no sleeper can take a ring away from another, nor with it into its grave.
"""

from __future__ import annotations

import os
import select
import sys
import weakref
from collections.abc import Callable, Generator, Iterable
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from procoro import kernel

T = TypeVar("T")
BRIEFLY = 0.001  # seconds: the state will be settled in a moment
STOPPED = 1.0  # seconds that one who must not wait waits for who is in the midst of a change, and may be stopped
LOOK = 1.0  # seconds after which a sleeper looks by itself, whatever happens: a belt beside the braces
Waiting = Generator["Sleeper", None, T]


def ring(bell: int) -> None:
    """Wake all who sleep on this bell."""
    try:
        os.eventfd_write(bell, 1)
    except BlockingIOError:  # after 2**64 rings
        os.eventfd_read(bell)
        os.eventfd_write(bell, 1)


def deadline_of(timeout: float | None) -> float | None:
    """When a wait of so many seconds ends (less than 0: now); None: never. Raises TypeError for what is no number."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not (hasattr(timeout, "__float__") or hasattr(timeout, "__index__")):
        raise TypeError(f"timeout must be a number of seconds or None, got {timeout!r}")
    return monotonic() + max(0.0, float(timeout))


class Sleeper:
    """What one thread, task or greenlet sleeps on: a bell, other descriptors, and the deaths of processes."""

    def __init__(self, bell: int | None, deadline: float | None) -> None:
        self._epoll = kernel.original("select", "epoll")()
        self._bell = bell
        self._others = False  # other descriptors than the bell and pidfds
        self._followers: dict[Callable[[], object], None] = {}  # what wakes them
        if bell is not None:
            self._epoll.register(bell, select.EPOLLIN | select.EPOLLET)
            self._epoll.poll(0)  # what rang before
        self._deadline = deadline
        self._pidfds: dict[int, int] = {}
        self._longest = LOOK
        self._heard: set[int] = set()  # what woke it the last time

    def __enter__(self) -> Sleeper:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._pidfds.values():
            os.close(fd)
        self._epoll.close()

    def add(self, fd: int, events: int) -> None:
        """Wake also when this descriptor can be read or written."""
        self._others = True
        self._epoll.register(fd, events)

    @property
    def late(self) -> bool:
        """Is it past the deadline?"""
        return self._deadline is not None and monotonic() >= self._deadline

    @property
    def only_rung(self) -> bool:
        """Was it the bell, and nothing else, that woke it?"""
        return self._heard == {self._bell}

    def watch(self, pids: Iterable[int]) -> bool:
        """Wake also when one of these processes (and no other) dies. False: one is dead."""
        wanted = set(pids) - {os.getpid()}
        for pid in set(self._pidfds) - wanted:
            fd = self._pidfds.pop(pid)
            self._epoll.unregister(fd)
            os.close(fd)
        for pid in wanted - set(self._pidfds):
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                return False
            except OSError:  # no descriptor is free: it looks from time to time
                continue
            self._pidfds[pid] = fd
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        return True

    def within(self, seconds: float) -> Sleeper:
        """Sleep no longer than this, the next time."""
        self._longest = min(seconds, LOOK)
        return self

    def _seconds(self) -> float:
        longest, self._longest = self._longest, LOOK
        return longest if self._deadline is None else max(0.0, min(longest, self._deadline - monotonic()))

    def _listen(self, seconds: float = 0.0) -> bool:
        heard = {fd for fd, _ in self._epoll.poll(seconds)}
        self._heard |= heard
        return bool(heard)

    def sleep(self) -> None:
        """Sleep, blocking this thread; in a greenlet, only that."""
        self._heard.clear()
        hub = _hub()
        if hub is None:
            self._listen(self._seconds())
            return
        greenlet, waits = sys.modules["gevent"].getcurrent(), [True]

        def switch() -> None:
            if waits[0]:
                greenlet.switch()

        timer = hub.loop.timer(self._seconds())
        leader = self._leader(hub)
        watcher: Any = hub.loop.io(self._epoll.fileno(), 1) if leader is None else None
        try:
            timer.start(switch)
            if leader is not None:
                leader._followers[later := partial(hub.loop.run_callback, switch)] = None
                if not self._listen():
                    hub.switch()
            else:
                watcher.start(switch)
                hub.switch()
        finally:
            waits[0] = False
            timer.close()
            if leader is not None:
                leader._followers.pop(later, None)
            else:
                watcher.close()
            self._stop_leading(hub)
            self._listen()

    async def asleep(self) -> None:
        """Sleep, in a task."""
        import asyncio

        self._heard.clear()
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(self._seconds(), _wake, woken)
        leader = self._leader(loop)
        try:
            if leader is not None:
                leader._followers[later := partial(_wake, woken)] = None
                if not self._listen():
                    await woken
            else:
                loop.add_reader(self._epoll.fileno(), _wake, woken)
                await woken
        finally:
            timer.cancel()
            if leader is not None:
                leader._followers.pop(later, None)
            else:
                loop.remove_reader(self._epoll.fileno())
            self._stop_leading(loop)
            self._listen()

    # The kernel lets no more than 500 epolls that wait for one bell be waited for in their turn. So of those in one
    # loop that sleep on it, one leads: when that wakes, all do.

    def _leader(self, loop: Any) -> Sleeper | None:
        """Whom to follow. None: nobody; we may lead."""
        leaders = _leaders.setdefault(loop, {})
        leader = leaders.get(self._bell)
        if leader is None:
            if self._bell is not None:
                leaders[self._bell] = self
        elif not self._others and self._pidfds.keys() <= leader._pidfds.keys():
            return leader
        return None

    def _stop_leading(self, loop: Any) -> None:
        leaders = _leaders.get(loop, {})
        if leaders.get(self._bell) is self:
            del leaders[self._bell]
            for wake in list(self._followers):
                wake()


_leaders: weakref.WeakKeyDictionary[Any, dict[int | None, Sleeper]] = weakref.WeakKeyDictionary()  # by loop and bell


def _wake(woken: Any) -> None:
    if not woken.done():
        woken.set_result(None)


def _hub() -> Any:
    """gevent's hub, if this thread has one that could run others meanwhile."""
    gevent: Any = sys.modules.get("gevent._hub_local")
    hub = None if gevent is None else gevent.get_hub_if_exists()
    return None if hub is None or hub is sys.modules["gevent"].getcurrent() else hub


def may_block() -> bool:
    """Does nobody wait for this thread but who called?"""
    return "gevent._hub_local" not in sys.modules or _hub() is None


def block(waiting: Waiting[T]) -> T:
    """Run it, and block while it sleeps."""
    error: BaseException | None = None
    try:
        while True:
            # It may have something to wait for, too, before an interrupt goes on its way: a lock to take again.
            sleeper = next(waiting) if error is None else waiting.throw(error)
            error = None
            try:
                sleeper.sleep()
            except BaseException as interrupt:
                error = interrupt
    except StopIteration as end:
        value: T = end.value
        return value


async def wait(waiting: Waiting[T]) -> T:
    """Run it, and let others run while it sleeps."""
    error: BaseException | None = None
    try:
        while True:
            sleeper = next(waiting) if error is None else waiting.throw(error)
            error = None
            try:
                await sleeper.asleep()
            except BaseException as interrupt:
                error = interrupt
    except StopIteration as end:
        value: T = end.value
        return value
