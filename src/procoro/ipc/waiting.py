"""One way to wait, and three doors to it: blocking, awaiting, and as a greenlet.

Whatever waits is written as a generator that yields what it sleeps on whenever there is nothing to do but to sleep; it
looks at the state of things again each time it is woken. `sleep_until` and `wait` run such a generator.

A bell is an eventfd that nobody ever reads: each sleeper has an epoll of its own on it, edge-triggered, so one write
wakes all of them in all processes, and no sleeper can take a ring away from another, nor with it into its grave.
"""

from __future__ import annotations

import os
import select
import sys
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Protocol, TypeVar

from procoro import kernel

T = TypeVar("T")
BRIEFLY = 0.001  # seconds: the state will be settled in a moment
STOPPED = 1.0  # seconds that one who must not wait waits for who is in the midst of a change, and may be stopped
LOOK = 1.0  # seconds after which a sleeper looks by itself, whatever happens: a belt beside the braces


class Sleeps(Protocol):
    """What `sleep_until` and `wait` sleep on."""

    def sleep(self) -> None:
        """Sleep, blocking this thread; in a greenlet, only that."""

    async def asleep(self) -> None:
        """Sleep, in a task."""


Waiting = Generator[Sleeps, None, T]


def ring_bell(bell: int) -> None:
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


class Nap:
    """A task's or a greenlet's wait that another of this process ends, also if it has not begun."""

    __slots__ = ("_end", "_ended")

    def __init__(self) -> None:
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._end: Callable[[], object] | None = None
        self._ended = False

    def end(self) -> None:
        """Wake who waits here, or is about to. In any thread."""
        self._ended = True
        if (end := self._end) is not None:
            end()

    def sleep(self, seconds: float) -> None:
        """Until it is ended, or so long. For greenlets."""
        hub = hub_to_wait_in()
        try:
            with _Switch(hub, seconds) as switch:

                def end() -> None:
                    try:
                        hub.loop.run_callback_threadsafe(switch)
                    except ValueError:  # it is destroyed
                        pass

                self._end = end
                if not self._ended:
                    hub.switch()
        finally:
            self._begin_anew()

    async def asleep(self, seconds: float) -> None:
        """As `sleep`, for tasks."""
        import asyncio

        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, woken)

        def end() -> None:
            # In a signal handler, its thread may sleep in the loop's `select`, which goes on after it.
            if asyncio._get_running_loop() is loop and asyncio.current_task(loop) is not None:
                _wake(woken)
                return
            try:
                loop.call_soon_threadsafe(_wake, woken)
            except RuntimeError:  # it is closed
                pass

        self._end = end
        try:
            if not self._ended:
                await woken
        finally:
            timer.cancel()
            self._begin_anew()


class Sleeper:
    """What one thread, task or greenlet sleeps on: a bell, other descriptors, and the deaths of processes.

    Opened when it is needed. The bell is heard from then on: so the first sleep is over at once, to look again.
    """

    def __init__(self, bell: int | None, deadline: float | None) -> None:
        self._bell = bell
        self._deadline = deadline
        self._epoll: select.epoll | None = None
        self._is_new = False  # nobody has looked since it hears the bell
        self._others = False  # other descriptors than the bell and pidfds
        self._followers: dict[Sleeper, Nap] = {}
        self._pidfds: dict[int, int] = {}
        self._longest = LOOK
        self._heard: set[int | None] = set()  # what woke it the last time

    def __enter__(self) -> Sleeper:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._pidfds.values():
            os.close(fd)
        if self._epoll is not None:
            self._epoll.close()

    def _open(self) -> select.epoll:
        if self._epoll is None:
            self._epoll = kernel.original("select", "epoll")()
            if self._bell is not None:
                self._epoll.register(self._bell, select.EPOLLIN | select.EPOLLET)
                self._epoll.poll(0)  # what rang before
                self._is_new = True
        return self._epoll

    def add(self, fd: int, events: int) -> None:
        """Wake also when this descriptor can be read or written."""
        self._others = True
        self._open().register(fd, events)

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
            self._open().unregister(fd)
            os.close(fd)
        for pid in wanted - set(self._pidfds):
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                return False
            except OSError:  # no descriptor is free: it looks from time to time
                continue
            self._pidfds[pid] = fd
            self._open().register(fd, select.EPOLLIN | select.EPOLLET)
        return True

    def within(self, seconds: float) -> Sleeper:
        """Sleep no longer than this, the next time."""
        self._longest = min(seconds, LOOK)
        return self

    def _seconds(self) -> float:
        longest, self._longest = self._longest, LOOK
        return longest if self._deadline is None else max(0.0, min(longest, self._deadline - monotonic()))

    def _listen(self, seconds: float = 0.0) -> None:
        self._heard |= {fd for fd, _ in self._open().poll(seconds)}

    def _is_first(self) -> bool:
        """Is this the first sleep, which is over at once?"""
        self._open()
        is_new, self._is_new = self._is_new, False
        self._heard = {self._bell} if is_new else set()
        return is_new

    def sleep(self) -> None:
        """Sleep, blocking this thread; in a greenlet, only that."""
        hub, seconds = hub_to_wait_in(), self._seconds()
        if hub is None:
            if not self._is_first():
                self._listen(seconds)
        elif (leader := self._leader(hub)) is not None:
            with self._following(leader) as nap:
                nap.sleep(seconds)
        elif not self._is_first():
            with _Switch(hub, seconds) as switch, self._leading(hub):
                watcher: Any = hub.loop.io(self._open().fileno(), 1)
                try:
                    watcher.start(switch)
                    hub.switch()
                finally:
                    watcher.close()

    async def asleep(self) -> None:
        """Sleep, in a task."""
        import asyncio

        loop, seconds = asyncio.get_running_loop(), self._seconds()
        if (leader := self._leader(loop)) is not None:
            with self._following(leader) as nap:
                await nap.asleep(seconds)
        elif not self._is_first():
            woken: asyncio.Future[None] = loop.create_future()
            timer = loop.call_later(seconds, _wake, woken)
            with self._leading(loop):
                try:
                    loop.add_reader(self._open().fileno(), _wake, woken)
                    await woken
                finally:
                    timer.cancel()
                    loop.remove_reader(self._open().fileno())

    # Of those in one loop that sleep on the same bell, one leads: when that wakes, all do. The others need no epoll.
    # (And the kernel lets no more than 500 that wait for one bell be waited for in their turn.)

    def _leader(self, loop: Any) -> Sleeper | None:
        """Whom to follow, if there is one."""
        leader = _leaders.get(loop, {}).get(self._bell)
        follows = leader is not None and not self._others and self._pidfds.keys() <= leader._pidfds.keys()
        return leader if follows else None

    @contextmanager
    def _following(self, leader: Sleeper) -> Iterator[Nap]:
        self._heard = set()
        leader._followers[self] = nap = Nap()
        try:
            yield nap
        finally:
            leader._followers.pop(self, None)

    @contextmanager
    def _leading(self, loop: Any) -> Iterator[None]:
        leaders = _leaders.setdefault(loop, {})
        if self._bell is not None:
            leaders.setdefault(self._bell, self)
        try:
            yield
        finally:
            self._listen()
            if leaders.get(self._bell) is self:
                del leaders[self._bell]
            for follower, nap in list(self._followers.items()):
                follower._heard |= self._heard
                nap.end()


class _Switch:
    """What wakes this greenlet: called as `switch`, or after so many seconds."""

    def __init__(self, hub: Any, seconds: float) -> None:
        self._greenlet: Any = sys.modules["gevent"].getcurrent()
        self._timer: Any = hub.loop.timer(seconds)
        self._timer.start(self)

    def __call__(self) -> None:
        if self._greenlet is not None:
            self._greenlet.switch()

    def __enter__(self) -> _Switch:
        return self

    def __exit__(self, *_: object) -> None:
        self._greenlet = None
        self._timer.close()


_leaders: weakref.WeakKeyDictionary[Any, dict[int | None, Sleeper]] = weakref.WeakKeyDictionary()  # by loop and bell


def _wake(woken: Any) -> None:
    if not woken.done():
        woken.set_result(None)


def hub_to_wait_in() -> Any:
    """gevent's hub, if this thread has one that could run others meanwhile."""
    gevent: Any = sys.modules.get("gevent._hub_local")
    hub = None if gevent is None else gevent.get_hub_if_exists()
    return None if hub is None or hub is sys.modules["gevent"].getcurrent() else hub


def may_block() -> bool:
    """Does nobody wait for this thread but who called?"""
    return "gevent._hub_local" not in sys.modules or hub_to_wait_in() is None


def _has_ended(waiting: Any) -> bool:
    return waiting.gi_frame is None


def sleep_until(waiting: Waiting[T]) -> T:
    """Run it, and block while it sleeps."""
    error: BaseException | None = None
    while True:
        try:
            while True:  # within: a handler may raise as it goes round
                # It may have something to wait for, too, before an interrupt goes on its way: a lock to take again.
                sleeper = next(waiting) if error is None else waiting.throw(error)
                error = None
                sleeper.sleep()
        except StopIteration as end:
            value: T = end.value
            return value
        except BaseException as interrupt:
            if _has_ended(waiting):  # it was its own, or it has ended by that
                raise
            error = interrupt


async def wait(waiting: Waiting[T]) -> T:
    """Run it, and let others run while it sleeps."""
    error: BaseException | None = None
    while True:
        try:
            while True:  # within: a handler may raise as it goes round
                # It may have something to wait for, too, before an interrupt goes on its way: a lock to take again.
                sleeper = next(waiting) if error is None else waiting.throw(error)
                error = None
                await sleeper.asleep()
        except StopIteration as end:
            value: T = end.value
            return value
        except BaseException as interrupt:
            if _has_ended(waiting):  # it was its own, or it has ended by that
                raise
            error = interrupt
