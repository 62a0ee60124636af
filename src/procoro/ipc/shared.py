"""What processes share of one object: some words of memory, bytes that the kernel can lock, and a bell.

All of it is one anonymous file and an eventfd. The locks are those of open file descriptions (`F_OFD_SETLK`), so every
process opens the file anew, and the kernel releases what a process held when it dies, however it dies.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import mmap
import os
import struct
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, Self

from procoro import kernel
from procoro.ipc import waiting
from procoro.wire import handles

SETLK = fcntl.F_OFD_SETLK
PRESENT = 0  # the byte on which every process that holds the object has a shared lock
KEY, SHARED_WITH_OTHERS, FIRST_WORD = 0, 1, 2


def lock_of(byte: int, kind: int) -> bytes:
    """What `fcntl` wants to be told of one byte."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0)


def is_locked(file: int, lock: bytes) -> bool:
    """Does anybody else hold a lock that is in this one's way?"""
    answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, lock)
    return int(struct.unpack_from("h", answer)[0]) != fcntl.F_UNLCK


PRESENCE = lock_of(PRESENT, fcntl.F_RDLCK)
ALONE = lock_of(PRESENT, fcntl.F_WRLCK)


class Descriptors:
    """What an object holds in this process; `goodbye`: what it does when the process leaves it.

    Apart from the object: by its own `__del__`, in which its weak references still work, another thread could get it
    half closed.
    """

    __slots__ = ("bell", "file", "goodbye")

    def __init__(self) -> None:
        self.file = -1  # our own open file description: the locks are on it
        self.bell = -1
        self.goodbye: Callable[[], None] | None = None

    def leave(self) -> None:
        """This process holds it no more; somebody may have waited for us, and is to see that."""
        if os is None:
            return  # the interpreter ends, and what was in modules is gone
        if self.file >= 0:
            if self.goodbye is not None:
                self.goodbye()
            os.close(self.file)
            self.file = -1
            waiting.ring_bell(self.bell)
        self.close()

    def close(self) -> None:
        """Close them, and no more."""
        file, self.file = self.file, -1
        bell, self.bell = self.bell, -1
        for fd in (file, bell):
            if fd >= 0:
                os.close(fd)


class Shared:
    """The base of all objects that processes share. The same object in two processes has the same `key`.

    A process that is sent one that it has gets the one that it has.
    """

    _WORDS: ClassVar[int] = 64
    _MORE: ClassVar[int] = 0  # bytes behind the words, that are mapped with them
    _here: ClassVar[weakref.WeakValueDictionary[int, Shared]] = weakref.WeakValueDictionary()

    key: int
    awaited_by: weakref.WeakSet[Any]
    _own: Descriptors
    _for_child: int = -1  # while this process forks
    _words: memoryview
    _more: memoryview

    def __init__(self) -> None:
        self._hold()
        file = kernel.shared_file(f"procoro-{type(self).__name__.lower()}", 8 * self._WORDS + self._MORE)
        try:
            self._own.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._open(file)
        except BaseException:
            self._own.close()
            raise
        finally:
            os.close(file)
        self.key = self._words[KEY] = int.from_bytes(os.urandom(8), "little")
        self._here[self.key] = self
        self.awaited_by = weakref.WeakSet()
        self._prepare()
        self._take_part()

    def _hold(self) -> None:
        self._own = Descriptors()
        weakref.finalize(self, self._own.leave).atexit = False

    @property
    def _file(self) -> int:
        return self._own.file

    @property
    def _bell(self) -> int:
        return self._own.bell

    def _open(self, file: int) -> None:
        whole = memoryview(_map(file, 0, 8 * self._WORDS + self._MORE))
        self._words, self._more = whole[: 8 * self._WORDS].cast("Q"), whole[8 * self._WORDS :]
        self._own.file = _reopen(file)
        fcntl.fcntl(self._file, SETLK, PRESENCE)

    def _map(self, start: int, size: int) -> memoryview:
        """A part of the file as memory."""
        return memoryview(_map(self._file, start, size))

    def _prepare(self) -> None:
        """Make what this process keeps of it for itself."""

    def _take_part(self) -> None:
        """This process has made it, or was sent it."""

    # ---- travelling

    def lend(self) -> list[int]:
        """As in `Handle`: what is under way counts as a holder, too."""
        file = self._presence()
        try:
            return [file, os.dup(self._bell)]
        except BaseException:
            os.close(file)
            raise
        finally:
            self._words[SHARED_WITH_OTHERS] = 1  # not before: somebody would find us alone

    def __reduce__(self) -> Any:
        return _arrive, (type(self), handles.collect(self), *self._parts())

    def _parts(self) -> tuple[Any, ...]:
        """Other handles that belong to it."""
        return ()

    @classmethod
    def _arrive(cls, key: int, *parts: Any) -> Self:
        with _lock:  # else two threads that get it at the same time would each have one of their own
            known = cls._here.get(key)
            if known is None:
                known = cls._here[key] = cls._made(key, *parts)
        assert isinstance(known, cls)
        return known

    @classmethod
    def _made(cls, key: int, *parts: Any) -> Self:
        file, bell = handles.take(key)
        self = cls.__new__(cls)
        self._hold()
        try:
            self._own.bell = os.dup(bell)
            self._open(file)
        except BaseException:
            self._own.close()
            raise
        self.key = key
        self.awaited_by = weakref.WeakSet()
        self._join_parts(*parts)
        self._prepare()
        self._take_part()
        return self

    def _join_parts(self, *parts: Any) -> None:
        """Take in what `_parts` gave."""

    # ---- leaving, forking

    def _before_fork(self) -> None:
        # The child counts as a holder from its first moment on.
        if self._file >= 0:
            try:
                self._for_child = self._presence()
            except OSError:  # no descriptor is free
                self._for_child = -1
            self._words[SHARED_WITH_OTHERS] = 1

    def _presence(self) -> int:
        """A new description of the file that counts as a holder."""
        file = _reopen(self._file)
        fcntl.fcntl(file, SETLK, PRESENCE)
        return file

    def _after_fork(self) -> None:
        file, self._for_child = self._for_child, -1
        if file >= 0:
            os.close(file)

    def _forked(self) -> None:
        """In a child: the description is the parent's, and so are its locks; take our own."""
        file, self._for_child = self._for_child, -1
        if self._file < 0:  # it was being closed
            if file >= 0:
                os.close(file)
            return
        if file < 0:  # it cannot be used here: whatever is tried raises
            os.close(self._file)
            self._own.file = -1
            with contextlib.suppress(Exception):
                self._prepare()
            return
        os.dup2(file, self._file, inheritable=False)
        os.close(file)
        self._prepare()

    def _is_alone(self) -> bool:
        """Are all others gone, though there were some?"""
        if not self._words[SHARED_WITH_OTHERS] or self.awaited_by:
            return False
        return not is_locked(self._file, ALONE)


def _arrive(cls: type[Shared], key: int, *parts: Any) -> Shared:
    return cls._arrive(key, *parts)


def _reopen(file: int) -> int:
    return os.open(f"/proc/self/fd/{file}", os.O_RDWR | os.O_CLOEXEC)


def _map(file: int, start: int, size: int) -> mmap.mmap:
    # By a description of its own: a mapping keeps one open, and with that its locks, in a child that is forked.
    other = _reopen(file)
    try:
        return mmap.mmap(other, size, mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=start)
    finally:
        os.close(other)


# Of this process, kept since each use would cost a system call; set anew in a child that is forked
pid, started = os.getpid(), kernel.started(os.getpid())


_lock = threading.RLock()  # of what is here, also while this process forks
_becomes_another = False  # does the child that is just forked?
_forking: list[Shared] = []  # held until the fork is over: another thread may let them go meanwhile


def _all() -> list[Shared]:
    # `valuerefs` is one step: over `values`, another thread may put one in meanwhile, and that raises.
    return [one for ref in Shared._here.valuerefs() if (one := ref()) is not None]


def _before() -> None:
    global _becomes_another
    _lock.acquire()
    # A child that runs a `preexec_fn`, and then another program: it is no holder, and its end says nothing.
    _becomes_another = sys._getframe(1).f_globals.get("__name__") == "subprocess"
    _forking[:] = [] if _becomes_another else _all()
    for one in _forking:
        one._before_fork()


def _in_parent() -> None:
    try:
        for one in _forking:
            one._after_fork()
    finally:
        _forking.clear()
        _lock.release()


def _in_child() -> None:
    global pid, started
    pid = os.getpid()
    if _becomes_another:
        _lock.release()
        return
    try:
        started = kernel.started(pid)
    except OSError:  # no descriptor is free
        started = 0
    try:
        for one in {*_forking, *_all()}:  # also what another thread has just made: it cannot be used here
            one._forked()
    finally:
        _forking.clear()
        _lock.release()
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:  # its children run no exit functions but its own
        util.register_after_fork(Shared, lambda _: util.Finalize(None, _end_well, exitpriority=0))


def _end_well() -> None:
    """This process is about to end, of its own will."""
    for one in _all():
        goodbye, one._own.goodbye = one._own.goodbye, None
        if goodbye is not None:
            goodbye()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
atexit.register(_end_well)
handles.farewells.append(_end_well)
