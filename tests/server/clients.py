"""Clients with real sockets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

PATIENCE = 20.0  # seconds until an answer that does not come is a failure
Address = Any  # (host, port, ...) or a path


def connect(address: Address, timeout: float = PATIENCE) -> socket.socket:
    """A connection; its waits end after a while."""
    if isinstance(address, str):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(timeout)
        try:
            client.connect(address)
        except OSError:
            client.close()
            raise
        return client
    return socket.create_connection(tuple(address[:2]), timeout)


def receive(client: socket.socket, size: int) -> bytes:
    """So many bytes, or less if they end."""
    parts = []
    while size and (part := client.recv(min(size, 1 << 18))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def receive_all(client: socket.socket) -> bytes:
    """To the end."""
    return receive(client, 1 << 60)


def ask(client: socket.socket, data: bytes = b"hello") -> bytes:
    """What an echo server says to it."""
    client.sendall(data)
    return receive(client, len(data))


def ask_large(client: socket.socket, data: bytes, size: int | None = None) -> bytes:
    """The same, for more than the kernel would hold."""
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    try:
        return receive(client, len(data) if size is None else size)
    finally:
        sender.join()


def line(client: socket.socket) -> bytes:
    """The next line; of a client that does not ask before the last answer has come."""
    found = bytearray()
    while not found.endswith(b"\n") and (part := client.recv(65536)):
        found += part
    return bytes(found)


def tell(client: socket.socket, words: str) -> Any:
    """What the handler that does as it is told answers; None: it has closed the connection."""
    client.sendall(words.encode() + b"\n")
    answer = line(client)
    return json.loads(answer) if answer else None


def once(address: Address, words: str) -> Any:
    """The same, on a connection of its own."""
    with connect(address) as client:
        return tell(client, words)


def is_closed(client: socket.socket) -> bool:
    """Has the other side closed it, and sent nothing?"""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


@contextmanager
def several(address: Address, count: int) -> Iterator[list[socket.socket]]:
    """So many connections."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(address)) for _ in range(count)]


def reset(client: socket.socket) -> None:
    """Close it so that the other side gets RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()


class Hammer:
    """Threads that connect, ask and close, again and again; what went wrong."""

    def __init__(self, address: Address, threads: int, words: bytes) -> None:
        self.errors: list[str] = []
        self.count = 0
        self.began = False
        self._address = address
        self._words = words
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self) -> None:
        done = 0
        while not self._ended.is_set():
            try:
                with connect(self._address) as client:
                    client.sendall(self._words)
                    if not line(client).endswith(b"\n"):
                        self.errors.append("no answer")
                self.began = True
            except OSError as error:
                self.errors.append(repr(error))
            done += 1
        with self._lock:
            self.count += done

    def __enter__(self) -> Hammer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def pids_of(address: Address, least: int, tries: int = 400) -> set[int]:
    """The pids of the workers that answer; until so many have."""
    found: set[int] = set()
    for _ in range(tries):
        found.add(once(address, "pid"))
        if len(found) >= least:
            break
    return found


def all_equal(values: Sequence[Any]) -> bool:
    """Is there but one of them?"""
    return all(value == values[0] for value in values)
