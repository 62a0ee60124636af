"""Calls to the kernel that need more than a line, or something else where they are lacking.

procoro is made for Linux (x86-64 and ARM64). What another system lacks is refused here, in words.
"""

from __future__ import annotations

import fcntl
import functools
import io
import os
import sys
import time
from _thread import RLock  # not gevent's, where that has patched
from collections.abc import Iterable

TYPE_CHECKING = False  # by hand, see pool.py
if TYPE_CHECKING:
    from typing import Any

if sys.platform == "win32":
    raise ImportError("procoro does not support Windows yet: it needs fork and descriptors that can be passed")

SIGINT, SIGKILL, SIGTERM = 2, 9, 15  # `signal` brings `enum` along, and puts the first template off by 3 ms
F_SETSIG = 10
MEMBARRIER = {"x86_64": 324, "aarch64": 283}.get(os.uname().machine)
MEMBARRIER_GLOBAL_EXPEDITED = 1 << 1  # 1 µs, for processes that have registered
MEMBARRIER_REGISTER_GLOBAL_EXPEDITED = 1 << 2

# May another processor see two stores of ours in another order? Not on x86.
STORES_IN_ORDER = os.uname().machine in ("x86_64", "i686")

KEEP_SIZE, PUNCH_HOLE = 1, 2  # of fallocate


# Held while a module is imported late: a child that is forked meanwhile would have half of it, or wait for the rest
importing = RLock()
os.register_at_fork(before=importing.acquire, after_in_parent=importing.release, after_in_child=importing.release)


def shared_file(name: str, size: int = 0) -> int:
    """A descriptor of anonymous shared memory, gone with its last holder: no name, no litter."""
    if not hasattr(os, "memfd_create"):
        raise NotImplementedError("procoro needs memfd_create, which this system lacks: Linux is supported")
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    if fd < 3:  # it would be taken for a standard stream that is closed
        os.close(fd)
        occupy_standard()
        return shared_file(name, size)
    os.ftruncate(fd, size)
    return fd


def store_last(fd: int, offset: int, value: int) -> None:
    """Store a word of a shared file after all that was stored before, as others see it: a system call orders that.

    Where `STORES_IN_ORDER`, an aligned store into the mapping does the same.
    """
    os.pwrite(fd, value.to_bytes(8, sys.byteorder), offset)


def close_all(fds: Iterable[int]) -> None:
    """Close these descriptors."""
    for fd in fds:
        os.close(fd)


def punch_hole(fd: int, start: int, size: int) -> None:
    """Give the memory of a part of a shared file back: it reads as zeros from now on. Whole pages only."""
    libc = _libc()
    import ctypes

    # Where it cannot be given back, it is kept.
    libc.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, ctypes.c_int64(start), ctypes.c_int64(size))


@functools.cache
def _libc() -> Any:
    with importing:
        import ctypes

    return ctypes.CDLL(None, use_errno=True)


def original(module: str, name: str) -> Any:
    """A function of the standard library, also where gevent has put its own in its place."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(__import__(module), name)


poll = original("select", "poll")


def occupy_standard() -> None:
    """Open /dev/null where a standard stream is closed: a descriptor of ours there would be taken for that stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free: this one


def open_lifeline(pipe: int) -> int:
    """A description of this pipe for one process, which is to hang on it. Opened before the fork: there it costs less.

    (Signals belong to the open file description.)
    """
    own = os.open(f"/proc/self/fd/{pipe}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(own, F_SETSIG, SIGKILL)
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    return own


def hang_on(lifeline: int) -> None:
    """Let the kernel kill this process when the pipe's writing end is closed, also in a C loop.

    `PR_SET_PDEATHSIG` would not do: a worker's parent is the template, and it fires with the *thread* that forked.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    looker = poll()
    looker.register(lifeline, 0)
    if looker.poll(0):  # it was closed before we listened
        os._exit(1)


def _membarrier(command: int) -> int:
    assert MEMBARRIER is not None
    return int(_libc().syscall(MEMBARRIER, command, 0, 0))


def accept_barriers() -> None:
    """Take part in `barrier()` at its fast price; inherited over fork."""
    if MEMBARRIER is not None:
        _membarrier(MEMBARRIER_REGISTER_GLOBAL_EXPEDITED)


def barrier() -> None:
    """After this, every store that a registered process had made is seen here, and it sees all of ours.

    The asymmetric half of a Dekker handshake (Linux: membarrier): workers pay nothing.
    """
    try:
        done = MEMBARRIER is not None and _membarrier(MEMBARRIER_GLOBAL_EXPEDITED) >= 0
    except (ImportError, OSError):  # no descriptor is free to load ctypes
        done = False
    if not done:
        time.sleep(0.001)  # store buffers drain within nanoseconds


def umask() -> int:
    """This process's umask, read without changing it."""
    umask = read("/proc/self/status").partition(b"\nUmask:")[2].partition(b"\n")[0]
    return int(umask, 8) if umask else 0o022


def started(pid: int) -> int:
    """When a process started, in the kernel's ticks; 0 if it is dead. With its pid, that names it for good."""
    try:
        fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in b"ZX" else int(fields[19])


def starved(pid: int) -> int:
    """For how long a process's main thread has been ready to run, and had no core: ns; 0 if nobody can tell."""
    try:
        return int(read(f"/proc/{pid}/schedstat").split()[1])
    except (OSError, IndexError):
        return 0


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 if it is gone."""
    try:
        return int(read(f"/proc/{pid}/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def read(path: str) -> bytes:
    """A small file, in as few calls as can be: each gives the GIL away, and who computes keeps it for 5 ms."""
    with io.FileIO(path) as file:
        return file.read(1 << 16)
