"""The sockets that a server listens on. The parent makes and keeps them: who waits in one outlives a worker's death."""

from __future__ import annotations

import errno
import os
import socket
import stat
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from procoro import arguments
from procoro.wire import handles


class Listener:
    """A listening socket that can be sent to a worker."""

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket
        self.key = int.from_bytes(os.urandom(8), "little")
        self.awaited_by: weakref.WeakSet[Any] = weakref.WeakSet()

    def lend(self) -> list[int]:
        """As in `handles.Handle`."""
        return [os.dup(self.socket.fileno())]

    def close(self) -> None:
        """Close it, whoever else holds it: a worker that is ending, or a process that a handler has started."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # it is closed; or this system has no such thing
            pass
        self.socket.close()

    def __reduce__(self) -> Any:
        return _arrive, (handles.collect(self),)


def _arrive(key: int) -> socket.socket:
    (fd,) = handles.take(key)
    return socket.socket(fileno=os.dup(fd))


class Listeners:
    """Each worker's sockets: for TCP its own, over which the kernel spreads connections; for a path one for all.

    Raises:
        OSError: an address cannot be had; the message names it.
    """

    def __init__(self, hosts: Sequence[str | None], port: int | None, path: Any, backlog: int, workers: int) -> None:
        if port is None and path is None:
            raise ValueError("a server needs a port or a path to listen on")
        if port is not None and not 0 <= arguments.count("port", port, 0) <= 65535:
            raise ValueError(f"port must be 0 to 65535, got {port}")
        if path is not None and not (isinstance(path, str) and path):
            raise TypeError(f"path must be the name of a Unix socket, got {path!r}")
        self._backlog = backlog
        self._workers: list[list[Listener]] = [[] for _ in range(workers)]
        self._remove_path: Callable[[], object] = lambda: None
        self.addresses: list[Any] = []
        try:
            if port is not None:
                self._listen_on(_addresses(hosts, port))
            if path is not None:
                self._share(path)
        except BaseException:
            self.close()
            raise

    def of(self, worker: int) -> list[Listener]:
        """Those that one worker accepts from."""
        return self._workers[worker]

    def _listen_on(self, addresses: Sequence[tuple[int, Any]]) -> None:
        for family, address in addresses:
            if address[1] == 0 and self.addresses:  # one port for all of them
                address = (address[0], self.addresses[0][1], *address[2:])
            _try(family, address)
            for own in self._workers:
                own.append(Listener(_tcp(family, address, self._backlog)))
                address = own[-1].socket.getsockname()
            self.addresses.append(address)

    def _share(self, path: str) -> None:
        shared = Listener(_unix(path, self._backlog))
        # Also of a server that nobody has stopped, at the end of its program
        self._remove_path = weakref.finalize(
            self, _remove_own, os.path.abspath(path), os.stat(path).st_ino, os.getpid()
        )
        for own in self._workers:
            own.append(shared)
        self.addresses.append(path)

    def close(self) -> None:
        """Close all: who waits in one, or comes, is refused."""
        self._remove_path()
        for own in self._workers:
            for listener in own:
                listener.close()


def _addresses(hosts: Sequence[str | None], port: int) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    for host in hosts:
        try:
            known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:
            words = error.strerror if isinstance(error, OSError) else str(error)
            raise OSError(errno.EADDRNOTAVAIL, f"cannot listen on {host!r}: {words}") from None
        for family, _, _, _, address in known:
            if (family, address) not in found:
                found.append((family, address))
    return found


def _try(family: int, address: Any) -> None:
    """With SO_REUSEPORT we could listen beside another server of the same user, and nobody would be told."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        _prepare(probe, family)
        _bind(probe, address)
        try:
            probe.listen(1)
        except OSError as error:
            raise _named(error, address) from None


def _tcp(family: int, address: Any, backlog: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        _prepare(listener, family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(listener, address)
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _prepare(listener: socket.socket, family: int) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what it accepts has it, too
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def _bind(listener: socket.socket, address: Any) -> None:
    try:
        listener.bind(address)
    except OSError as error:
        raise _named(error, address) from None


def _named(error: OSError, address: Any) -> OSError:
    hint = ""
    if error.errno == errno.EADDRINUSE:
        hint = ": another program listens there"
        if isinstance(address, str) and not _is_socket(address):
            hint = ": there is something that is no socket"
    return OSError(
        error.errno or errno.EINVAL, f"cannot listen on {address_in_words(address)}: {error.strerror or error}{hint}"
    )


def address_in_words(address: Any) -> str:
    """An address as people write it."""
    if isinstance(address, str):
        return address
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unix(path: str, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead(path)
        _bind(listener, path)
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:  # there is nothing; or binding to it fails, in words
        return False


def _remove_own(path: str, inode: int, pid: int) -> None:
    """The socket that this process has made, if it is that still."""
    try:
        if os.getpid() == pid and os.stat(path).st_ino == inode:
            os.unlink(path)
    except OSError:
        pass


def _remove_dead(path: str) -> None:
    """A socket that a dead server has left. One that answers stays, and binding to it fails."""
    if not _is_socket(path):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # its backlog may be full
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass
