"""A connection's methods, one by one, on sockets of a loop of this process."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from procoro.server import counters
from procoro.server.connection import Connection

LINE, MESSAGE = 100, 1000


class Books:
    """What a connection asks of `Tasks`."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.cells = [0] * len(counters.NAMES)
        self.settings = SimpleNamespace(max_line=LINE, max_message=MESSAGE)
        self.now = 0.0
        self.is_secure = False

    def opened(self, connection: Connection) -> None:
        """As in `Tasks`."""

    def closed(self, connection: Connection) -> None:
        """As in `Tasks`."""


def with_connection(test: Callable[[Connection, socket.socket], Awaitable[None]]) -> None:
    """Run a test with a connection and the other side's socket."""

    async def run() -> None:
        here, there = socket.socketpair()
        with there:
            there.settimeout(10)
            loop = asyncio.get_running_loop()
            tasks: Any = Books()
            _, connection = await loop.connect_accepted_socket(lambda: Connection(tasks), here)
            try:
                await asyncio.wait_for(test(connection, there), 20)
            finally:
                connection.abort()
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def test_recv_takes_what_is_there() -> None:
    async def test(conn: Connection, there: socket.socket) -> None:
        there.sendall(b"abcdef")
        assert await conn.recv(0) == b""
        assert await conn.recv(4) == b"abcd"
        assert await conn.recv() == b"ef"
        with pytest.raises(ValueError, match="size must be >= 0"):
            await conn.recv(-1)
        there.close()
        assert await conn.recv() == b""
        assert await conn.recv() == b""

    with_connection(test)


def test_lines() -> None:
    async def test(conn: Connection, there: socket.socket) -> None:
        there.sendall(b"one\ntwo\n\nthr")
        assert [await conn.readline() for _ in range(3)] == [b"one\n", b"two\n", b"\n"]
        waiting = asyncio.create_task(conn.readline())
        await asyncio.sleep(0.01)
        there.sendall(b"ee\nlast")
        assert await waiting == b"three\n"
        there.close()
        assert await conn.readline() == b"last"
        assert await conn.readline() == b""

    with_connection(test)


def test_the_longest_line_and_one_more() -> None:
    async def test(conn: Connection, there: socket.socket) -> None:
        there.sendall(b"x" * (LINE - 1) + b"\n" + b"x" * LINE + b"\n")
        assert len(await conn.readline()) == LINE
        with pytest.raises(ValueError, match="longer than the server's max_line of 100 bytes"):
            await conn.readline()
        assert await conn.recv(LINE + 1) == b"x" * LINE + b"\n"
        there.sendall(b"x" * LINE)
        there.shutdown(socket.SHUT_WR)
        assert await conn.readline() == b"x" * LINE

    with_connection(test)


def test_exactly_so_many() -> None:
    async def test(conn: Connection, there: socket.socket) -> None:
        there.sendall(b"abcdef")
        assert await conn.read_exactly(2) == b"ab"
        assert await conn.read_exactly(0) == b""
        for size in (MESSAGE + 1, -1):
            with pytest.raises(ValueError, match="max_message is 1,000"):
                await conn.read_exactly(size)
        there.close()
        with pytest.raises(EOFError, match="ended after 4 of the 5 bytes"):
            await conn.read_exactly(5)
        assert await conn.recv() == b"cdef"

    with_connection(test)


@pytest.mark.parametrize("read", [lambda c: c.readline(), lambda c: c.read_exactly(8), lambda c: c.recv()])
def test_a_read_that_is_cancelled_takes_nothing(read: Callable[[Connection], Awaitable[bytes]]) -> None:
    async def test(conn: Connection, there: socket.socket) -> None:
        there.sendall(b"abcd")
        assert await conn.recv(1) == b"a"
        if await conn.recv(1) == b"b":
            there.sendall(b"")
        with pytest.raises(TimeoutError):  # noqa: PT012
            async with asyncio.timeout(0.02):
                assert await conn.recv(2) == b"cd"
                await read(conn)
        there.sendall(b"efg")
        await asyncio.sleep(0.02)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await conn.read_exactly(8)
        there.sendall(b"hi\n\n\n")
        assert await conn.readline() == b"efghi\n"

    with_connection(test)


def test_two_that_read_are_told() -> None:
    async def test(conn: Connection, there: socket.socket) -> None:
        first = asyncio.create_task(conn.recv())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks wait to receive"):
            await conn.recv()
        there.sendall(b"x")
        assert await first == b"x"

    with_connection(test)


def test_crumbs_are_gathered() -> None:
    async def test(conn: Connection, there: socket.socket) -> None:
        for at in range(300):
            conn.data_received(bytes([at % 10 + 48]))
        assert len(conn._chunks) == 2
        conn.data_received(b"y" * 2000)
        got = await conn.read_exactly(301)
        assert type(got) is bytes and got == b"0123456789" * 30 + b"y"
        assert await conn.recv() == b"y" * 1999
        conn.data_received(b"a")
        conn.data_received(b"b\nc")
        assert await conn.readline() == b"ab\n"
        got = await conn.recv()
        assert type(got) is bytes and got == b"c"

    with_connection(test)


def test_a_reset_is_told_after_what_came_before() -> None:
    async def test(conn: Connection, there: socket.socket) -> None:
        conn.data_received(b"before")
        conn.connection_lost(ConnectionResetError("reset"))
        assert await conn.recv() == b"before"
        with pytest.raises(ConnectionResetError):
            await conn.recv()
        with pytest.raises(ConnectionResetError):
            await conn.sendall(b"x")

    with_connection(test)


def test_other_ends_are_connection_errors_too() -> None:
    async def test(conn: Connection, there: socket.socket) -> None:
        conn.connection_lost(TimeoutError("the network"))
        with pytest.raises(ConnectionAbortedError, match="the network"):
            await conn.recv()

    with_connection(test)


def test_sendall_takes_what_has_bytes() -> None:
    async def test(conn: Connection, there: socket.socket) -> None:
        buffer = bytearray(b"abc")
        await conn.sendall(buffer)
        buffer[:] = b"xyz"
        await conn.sendall(memoryview(b"d1e1f1")[::2])
        for wrong in ("text", 5, None):
            with pytest.raises(TypeError, match="bytes-like"):
                await conn.sendall(wrong)  # type: ignore[arg-type]
        conn.close()
        await asyncio.sleep(0.01)
        assert there.recv(100) == b"abcdef" and there.recv(100) == b""
        with pytest.raises(ConnectionResetError, match="is closed"):
            await conn.sendall(b"x")
        assert await conn.recv() == b""

    with_connection(test)


def test_sendall_waits_for_the_other_side() -> None:
    async def test(conn: Connection, there: socket.socket) -> None:
        sending = asyncio.create_task(conn.sendall(b"x" * 10_000_000))
        await asyncio.sleep(0.02)
        assert not sending.done()
        got = 0
        while not sending.done():
            try:
                got += len(there.recv(1 << 20, socket.MSG_DONTWAIT))
            except BlockingIOError:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
        await sending
        assert got > 5_000_000
        sending = asyncio.create_task(conn.sendall(b"x" * 10_000_000))
        await asyncio.sleep(0.02)
        there.close()
        with pytest.raises(ConnectionError):
            await sending

    with_connection(test)
