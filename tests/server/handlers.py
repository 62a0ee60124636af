"""What the servers of tests call: each kind of handler has its twin of the other kind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KINDS = ("async", "plain")


def handler(kind: str, name: str) -> Callable[[Any], Any]:
    """The handler of this name, of this kind."""
    found: Callable[[Any], Any] = globals()[f"{name}_{kind}"]
    return found


async def echo_async(conn: Any) -> None:
    async for chunk in conn:
        await conn.sendall(chunk)


def echo_plain(conn: socket.socket) -> None:
    while data := conn.recv(65536):
        conn.sendall(data)


async def recv_async(conn: Any) -> None:
    while data := await conn.recv(100):
        await conn.sendall(data)


# ---- a handler that does as it is told: a command a line, an answer a line


async def obey_async(conn: Any) -> None:
    while line := await conn.readline():
        words = line.decode().split()
        if words[0] == "wait":
            await conn.sendall(b"waits\n")
            await asyncio.sleep(float(words[1]))
        elif words[0] == "stubborn":
            await conn.sendall(b"stays\n")
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    continue
        await conn.sendall(json.dumps(done(words, conn.peername)).encode() + b"\n")


def lines(conn: socket.socket) -> Iterator[str]:
    rest = b""
    while data := conn.recv(65536):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line.decode()


def obey_plain(conn: socket.socket) -> None:
    for line in lines(conn):
        words = line.split()
        if words[0] == "wait":
            conn.sendall(b"waits\n")
            time.sleep(float(words[1]))
        elif words[0] == "stubborn":
            conn.sendall(b"stays\n")
            while True:
                try:
                    time.sleep(60)
                except BaseException:
                    continue
        conn.sendall(json.dumps(done(words, conn.getpeername())).encode() + b"\n")


def done(words: list[str], peer: Any) -> Any:
    match words[0]:
        case "pid":
            return os.getpid()
        case "peer":
            return peer
        case "raise":
            raise LookupError(f"told to raise {words[1]}")
        case "upstream":
            raise ConnectionRefusedError("of another connection")
        case "exit":
            raise SystemExit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stand":  # until a file is there
            while not os.path.exists(words[1]):
                pass
        case "files":
            return len(os.listdir("/proc/self/fd"))
        case "fork_and_leave":
            if not (pid := os.fork()):
                sys.exit(int(words[1]))
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        case "fork":
            pid = os.fork()
            if not pid:
                os.execvp("sleep", ["sleep", words[1]])
            return pid
    return "ok"


# ---- lines and messages


async def lines_async(conn: Any) -> None:
    while line := await conn.readline():
        await conn.sendall(b"<" + line)


async def messages_async(conn: Any) -> None:
    """Each has 4 bytes of length before it."""
    while True:
        try:
            size = int.from_bytes(await conn.read_exactly(4), "big")
        except EOFError:
            return
        body = await conn.read_exactly(size)
        await conn.sendall(len(body).to_bytes(4, "big") + bytes([sum(body) % 256]))


# ---- hooks


class Note:
    """Writes down when it is called, and by which process; a coroutine function, if asked for."""

    def __init__(self, file: Path, word: str) -> None:
        self.file = os.fspath(file)
        self.word = word

    def __call__(self) -> None:
        with open(self.file, "a") as file:
            file.write(f"{self.word} {os.getpid()}\n")


class AsyncNote(Note):
    async def __call__(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0.01)
        super().__call__()


class FailsIf:
    """Raises, dies or stands while a file is there."""

    def __init__(self, file: Path, how: str = "raise") -> None:
        self.file = os.fspath(file)
        self.how = how

    def __call__(self) -> None:
        if not os.path.exists(self.file):
            return
        with open(self.file, "a") as file:
            file.write(".")
        if self.how == "die":
            os._exit(7)
        raise LookupError("no way to begin")


# ---- options of sockets


async def nodelay_async(conn: Any) -> None:
    own = conn.get_extra_info("socket")
    await conn.sendall(b"%d" % bool(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))


def nodelay_plain(conn: socket.socket) -> None:
    conn.sendall(b"%d" % bool(conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
