"""A lock that its holder's death opens.

The truth is a byte that the kernel has locked, or the whole file by `flock`, which costs half as much; there is but one
of these for an object. A word tells the holder's pid, so that who waits can watch it die;
another gets a new number each time that somebody lies down to sleep, and each process that lets the lock go rings once
for each number. No table, nothing to repair.

The first process that takes it owns a *bias*: until another process comes, taking it is two words of memory and no
system call (biased locking, as Java's virtual machine had it). Who comes second revokes that for good: it says so, lets
the kernel put a barrier into the owner (`membarrier`, see `kernel`), and then sees whether the owner is within.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from functools import partial
from time import monotonic_ns

from procoro import kernel
from procoro.ipc import shared, waiting
from procoro.ipc.line import Lines, Place
from procoro.ipc.shared import SETLK, Shared, is_locked, lock_of
from procoro.ipc.waiting import BRIEFLY, Sleeper, Waiting

SPINS = 60  # looks before sleeping: what it is held for is short as a rule, and a wake-up costs 50 µs
BUSY = BlockingIOError, PermissionError
REVOKED = (1 << 64) - 1
PID_BITS = 22  # of a sleep's number: the rest is the time
# Its words
HOLDER, SLEEP, BIAS, WITHIN, OWNER, OWNER_STARTED = range(6)
WORDS = 6

kernel.accept_barriers()


class Mutex:
    """One lock on a byte (None: the file) and six words of a shared object.

    Not fair: whoever comes at the right time has it. Tasks of one loop that wait for it stand in a line.
    """

    __slots__ = (
        "_bell",
        "_biased",
        "_byte",
        "_file",
        "_free",
        "_revoked",
        "_take",
        "_woken",
        "_words",
        "former",
        "held",
        "lines",
        "turn",
    )

    def __init__(self, owner: Shared, byte: int | None, word: int) -> None:
        self._byte, self._bell = byte, owner._bell
        self._words = owner._words[word : word + WORDS]
        self.lines = Lines()
        self._use(owner._file)
        self._woken = 0  # the sleep for which we rang last
        self._biased = False
        self._revoked = False  # nobody has a bias, or ever will
        self.held = False  # by this process
        self.turn = 0  # how often this process has taken it, or tried to
        self.former = 0  # pid of who held it before, if it died holding it

    def _use(self, file: int) -> None:
        self._file = file
        if self._byte is None:
            self._take: Callable[[], object] = partial(fcntl.flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._free: Callable[[], object] = partial(fcntl.flock, file, fcntl.LOCK_UN)
        else:
            self._take = partial(fcntl.fcntl, file, SETLK, lock_of(self._byte, fcntl.F_WRLCK))
            self._free = partial(fcntl.fcntl, file, SETLK, lock_of(self._byte, fcntl.F_UNLCK))

    def acquire_at_once(self) -> bool:
        """Take it if it is free."""
        if self.held:
            return False
        # From the test to here nothing is called, so no other thread of ours, and no signal, can come between.
        self.held = True
        self.turn += 1
        words = self._words
        if self._biased:
            words[WITHIN] = 1
            if words[BIAS] != REVOKED:
                return True
            words[WITHIN] = 0
            self._biased = False
            if words[SLEEP] != self._woken:
                self._wake()
        try:
            self._take()
            if self._revoked or self._enter():
                self.former = words[HOLDER]
                words[HOLDER] = shared.pid
                return True
        except BUSY:
            self.held = False
            if self.lines:  # who looked meanwhile, saw that we have it
                self.lines.call()
            return False
        except BaseException:  # of a signal handler
            if self._biased:
                words[WITHIN] = 0
            if words[HOLDER] == shared.pid:
                words[HOLDER] = 0
            self._free()
            self.held = False
            raise
        self._free()
        self.held = self._biased
        if self.lines and not self.held:
            self.lines.call()
        return self._biased

    def acquire_surely(self) -> BaseException | None:
        """Take it, waiting for it, whatever interrupts that: the last such, to be raised when all is done."""
        interrupted: BaseException | None = None
        while True:
            try:
                if not self.acquire_at_once():
                    waiting.sleep_until(self.acquiring(None))
            except BaseException as error:
                interrupted = error
            else:
                return interrupted

    def _enter(self) -> bool:
        """The kernel's lock is ours. Is this one, too, and not by a bias?"""
        words = self._words
        if words[BIAS] != REVOKED:
            if not words[BIAS] and shared.started:
                words[OWNER], words[OWNER_STARTED] = shared.pid, shared.started
                words[WITHIN] = 1
                words[BIAS] = shared.pid
                self._biased = True
                self.former = 0
                return False
            words[BIAS] = REVOKED
        kernel.barrier()  # also if another process has revoked it: that may have died before this
        if words[WITHIN]:
            if kernel.started(words[OWNER]) == words[OWNER_STARTED]:
                kernel.barrier()  # if it is just leaving, it sees that we wait
                if words[WITHIN]:
                    return False
            elif words[WITHIN]:  # it has died within
                words[HOLDER], words[WITHIN] = words[OWNER], 0
        self._revoked = True
        return True

    def is_held(self) -> bool:
        """Is it held, by anyone? Takes nothing, and tells nobody."""
        words = self._words
        if self.held:
            return True
        if words[WITHIN] and kernel.started(words[OWNER]) == words[OWNER_STARTED]:  # also while that is revoked
            return True
        assert self._byte is not None  # nobody can ask about a `flock`
        return is_locked(self._file, lock_of(self._byte, fcntl.F_WRLCK))

    def disown(self) -> None:
        """Its object is closed: its descriptors may be another's soon."""
        self._bell = -1
        self._use(-1)

    def release(self) -> None:
        """Let it go. For its holder."""
        words = self._words
        if self._biased:
            words[WITHIN] = 0
            self.held = False
            if words[SLEEP] != self._woken:
                self._wake()
            if self.lines:
                self.lines.call()
            return
        words[HOLDER] = 0
        try:
            self._free()
        finally:
            self.held = False
            if words[SLEEP] != self._woken:
                self._wake()
            if self.lines:
                self.lines.call()

    def is_still_held(self, turn: int) -> bool:
        """Is it held as it was in that turn? Else it has been let go since."""
        return self.held and self.turn == turn

    def release_after_all(self, turn: int) -> None:
        """`release` was interrupted, perhaps by a signal handler before it had begun: let it go if it has not been.

        Callers write `try` and `except` out: a function that did it for them could be interrupted as it begins, too.
        """
        if self.is_still_held(turn):
            self.release()

    def _wake(self) -> None:
        """Ring once for each time that somebody lies down to sleep: it is heard 50 µs later."""
        sleep = self._words[SLEEP]
        waiting.ring_bell(self._bell)
        self._woken = sleep

    def acquiring(self, deadline: float | None) -> Waiting[bool]:
        """Take it, waiting for it as long as need be. False: the deadline came first."""
        words = self._words
        for _ in range(0 if self.held or self.lines else SPINS):
            if not words[HOLDER] and self.acquire_at_once():
                return True
        turn = 0  # in which it is ours
        try:
            with Place(self.lines, deadline) as place, Sleeper(self._bell, deadline) as sleeper:
                yield from place.coming_first()
                while True:
                    if self.held and place.is_taken:  # another of ours has it, who will call us
                        if place.late:
                            return False
                        yield place
                        continue
                    words[SLEEP] = (monotonic_ns() << PID_BITS | shared.pid) & REVOKED
                    if self.acquire_at_once():
                        turn = self.turn
                        place.calls_next = False  # `release` does
                        return True
                    if sleeper.late:
                        return False
                    holder = words[HOLDER] or (words[OWNER] if words[WITHIN] else 0)
                    if not (holder and sleeper.watch((holder,))):
                        sleeper.within(BRIEFLY)  # it has not yet said who it is, or is just dying
                    yield sleeper
        except BaseException:  # of a signal handler, when we had it
            if turn:
                self.release_after_all(turn)
            raise
