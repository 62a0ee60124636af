"""The one thread per process that turns every pool: it waits for descriptors and timers, and calls back.

It starts with the first pool and ends with the last. The user's threads only post to it and wait; so no signal
handler and no Ctrl-C of theirs can land between two steps of a scheduler.
"""

from __future__ import annotations

import heapq
import io
import os
import selectors
import sys
import threading
import time
from _socket import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

KEEN = 0.0002  # seconds for which it looks before it sleeps, if its last sleep was short:
SHORT = 0.0003  # seconds, waking included
TAKEN = 0.001  # seconds: a look that takes longer tells that somebody computes on this core
RESPITE = 0.1  # seconds without such looks, then
SOON = 0.02  # seconds within which is called what is posted soon
LONGEST_LOOK = 0.5  # seconds between two looks at the clock while anybody waits for a time
STOPPED = 1.0  # seconds: more than that between two looks at the clock, and this process was stopped meanwhile
RESUMED = 0.1  # seconds that count of these


class Turned(Protocol):
    """Who is turned by the crank."""

    def turn(self) -> float | None:
        """Do what is due; the time (of `Crank.now`) at which to come again, None for never."""

    def abort(self, error: BaseException) -> None:
        """A turn has failed, by a bug of ours: end everything with this error, so that nobody waits for ever."""


class Crank:
    """The loop. `post` is for every thread, all else for the crank's own."""

    _current: Crank | None = None
    _lock = threading.RLock()  # a signal handler may make a pool while its thread does

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._wake_read, wake_write = os.pipe()
        # A file, which knows that it is closed: its number may have been given to a file of the user's by then.
        self._wake_lock = threading.RLock()  # not in the midst of a write; a signal handler may post while we post
        self._wake_write = io.FileIO(wake_write, "wb")
        try:
            self._selector = selectors.DefaultSelector()
        except BaseException:
            os.close(self._wake_read)
            self._wake_write.close()
            raise
        os.set_blocking(self._wake_read, False)
        os.set_blocking(wake_write, False)
        self._awake = False
        # Is somebody about to wake it? In the midst of that a `__del__` may run, post, and wait: it has to write, too.
        self._waking = False
        self._dozes = False  # does it sleep for `SOON` at most, and look then?
        self._posted_soon = False  # since it began to
        self._dozes_until = 0.0
        self._keen = False  # to look again and again
        self._keen_from = 0.0  # not before that
        # Where gevent has patched, this is a greenlet: while it looks, no other runs.
        self._is_a_thread = type(self._selector).__name__ == "EpollSelector"
        self._turned: list[Turned] = []
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self.users = 0
        self.forked = False  # is this the copy of a crank in a child that the user forked? Nothing turns it
        self._over = False  # nothing turns it any more
        self._now = self._seen = time.monotonic()
        self._watched: dict[int, Callable[[], object]] = {}  # (to ask a selector for what it has not, takes 5 µs)
        self.watch(self._wake_read, self._drain)
        self._ident = 0  # of its thread
        self.thread = threading.Thread(target=self._run, name="procoro", daemon=True)

    @classmethod
    def acquire(cls) -> Crank:
        """The crank of this process, started if need be."""
        with cls._lock:
            crank = cls._current
            if crank is None:
                crank = cls()
                try:
                    crank.thread.start()
                except RuntimeError:  # no more threads can be started
                    crank._close()
                    raise
                cls._current = crank
            crank.users += 1
            return crank

    def release(self) -> None:
        """Called in the crank's thread: one pool less."""
        with self._lock:
            self.users -= 1
            if not self.users and Crank._current is self:
                Crank._current = None

    def post(self, call: Callable[[], object]) -> None:
        """Let the crank's thread call this soon, in the order of posting."""
        self._calls.append(call)
        self._wake()

    def post_soon(self, call: Callable[[], object]) -> None:
        """As `post`, for what can wait for some ms: while more and more is posted so, nobody is woken for each."""
        self._calls.append(call)
        self._posted_soon = True
        if not self._dozes:
            self._wake()

    def _wake(self) -> None:
        if not self._awake or self._waking:
            if sys.is_finalizing():  # the crank's thread has gone, perhaps with the lock
                return
            try:
                self._waking = self._awake = True
                with self._wake_lock:
                    self._wake_write.write(b".")  # if it is full, the crank will wake anyway
                self._waking = False
            except ValueError:  # it was closed meanwhile
                self._call_all()
            except BaseException:  # of a signal handler: it may not have been woken
                self._waking = self._awake = False
                raise
        elif self._over:
            self._call_all()

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call after so many seconds, or at once when the crank ends before that. For the crank's thread."""
        self._order += 1
        heapq.heappush(self._later, (self.now() + seconds, self._order, call))

    def add(self, turned: Turned) -> None:
        """Turn this one, too."""
        self._turned.append(turned)

    def remove(self, turned: Turned) -> None:
        """Do not turn this one any more."""
        if turned in self._turned:
            self._turned.remove(turned)

    def watch(self, file: socket | int, call: Callable[[], object]) -> None:
        """Call whenever the descriptor can be read. Watching it twice is watching it once."""
        fd = _number(file)
        if fd not in self._watched:
            self._selector.register(fd, selectors.EVENT_READ)
        self._watched[fd] = call

    def unwatch(self, file: socket | int) -> None:
        """Forget a descriptor, before it is closed."""
        fd = _number(file)
        if self._watched.pop(fd, None) is not None:
            self._selector.unregister(fd)

    def now(self) -> float:
        """Seconds for which this process has been running.

        A process that was stopped for a minute (SIGSTOP, a suspended machine) finds every deadline passed, though
        nobody had a chance to meet it: that minute does not count. (Nor does one that a callback keeps this thread.)
        """
        seen = time.monotonic()
        passed = seen - self._seen
        self._now += passed if passed < STOPPED else RESUMED
        self._seen = seen
        return self._now

    def _drain(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass

    def is_here(self) -> bool:
        """Is this the crank's thread?"""
        return threading.get_ident() == self._ident

    def _run(self) -> None:
        self._ident = threading.get_ident()
        wake_at: float | None = None
        while True:
            with self._lock:
                if not self.users and not self._calls:
                    break
            ready = self._wait(None if wake_at is None else min(max(wake_at - self.now(), 0.0), LONGEST_LOOK))
            for fd, call in [(key.fd, self._watched[key.fd]) for key, _ in ready]:
                # Else one before it has seen to it; the number may even be that of a new descriptor.
                if self._watched.get(fd) is call:
                    self._call(call)
            self._awake = True
            self._call_all()
            now = self.now()  # once: what is put off again here waits for the next round
            while self._later and self._later[0][0] <= now:
                self._call(heapq.heappop(self._later)[2])
            dues = [due for turned in list(self._turned) if (due := self._turn(turned)) is not None]
            if self._later:  # also what was put off by a turn
                dues.append(self._later[0][0])
            wake_at = min(dues, default=None)
        # What is posted from here on is refused by pools that have ended; whoever is last to look calls it.
        self._dozes, self._over = False, True
        self._call_all()
        while self._later:  # nobody waits for its time any more
            self._call(heapq.heappop(self._later)[2])
        self._close()
        self._ident = 0  # another thread will have the number

    def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for a post, for descriptors, or for so many seconds; what can be read.

        While waits turn out to be short, this looks again and again for a while before it sleeps: to be woken takes
        longer, 50 µs on some machines (as KVM's halt polling does, for the same reason). Between two looks it offers
        the core, for the kernel may have put the worker that we wait for there: both would look for half a second until
        it is moved, and each call take twice as long. But to who computes, that is a gift of 4 ms.
        """
        began = time.monotonic()
        while self._keen:
            ready = self._selector.select(0.0)
            if ready or self._calls:
                return ready
            os.sched_yield()
            now = time.monotonic()
            self._keen = now - began < KEEN
            if now - began > TAKEN:
                self._keen_from = now + RESPITE
        if self._posted_soon:
            self._posted_soon, self._dozes_until = False, time.monotonic() + 2 * SOON
        self._dozes = time.monotonic() < self._dozes_until
        if self._dozes:
            timeout = SOON if timeout is None else min(timeout, SOON)
        self._awake = False
        ready = self._selector.select(0.0 if self._calls else timeout)
        now = time.monotonic()
        self._keen = self._is_a_thread and now - began < SHORT and now > self._keen_from
        return ready

    def _close(self) -> None:
        self._selector.close()
        with self._wake_lock:
            self._wake_write.close()
        os.close(self._wake_read)  # after the other end: a write must not find it closed

    def _call_all(self) -> None:
        while self._calls:
            try:
                call = self._calls.popleft()
            except IndexError:  # at the end: another thread was faster
                return
            self._call(call)

    def _turn(self, turned: Turned) -> float | None:
        try:
            return turned.turn()
        except BaseException as error:  # also a SystemExit of the user's code: this thread must live
            _log_bug(error)
            turned.abort(error)
            return None

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            _log_bug(error)


def _number(file: socket | int) -> int:
    return file if isinstance(file, int) else file.fileno()


def _log_bug(error: BaseException) -> None:
    import logging

    words = "procoro: a bug in procoro itself, please report it"
    try:
        logging.getLogger("procoro").error(words, exc_info=error)
    except BaseException:
        pass  # a handler of the user's raises: there is nobody left to tell


def _forget_in_child() -> None:
    if Crank._current is not None:
        Crank._current.forked = True
        Crank._current._ident = 0
        Crank._current._awake = True  # or a post would wake the parent's
    Crank._current = None
    Crank._lock = threading.RLock()


os.register_at_fork(after_in_child=_forget_in_child)
