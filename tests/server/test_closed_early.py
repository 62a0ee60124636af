"""Handlers that go on when their connection is closed; clients that are slow to take the last words."""

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from procoro import Queue, Server
from procoro.server import tasks
from tests.server.clients import connect, receive_all
from tests.server.looks import server_of, sums, wait_for_open

PATIENCE = 20


def closes_and_works(conn: socket.socket) -> None:
    if conn.recv(100) == b"close":
        conn.close()
        time.sleep(1.5)
    else:
        time.sleep(1.0)
        conn.sendall(b"answer")


def test_a_plain_handler_that_has_closed_its_socket_takes_no_other_down() -> None:
    with (
        Server(closes_and_works, port=0, processes=1) as server,
        connect(server.addresses[0]) as other,
        connect(server.addresses[0]) as closing,
    ):
        other.sendall(b"request")
        closing.sendall(b"close")
        assert closing.recv(10) == b""
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert other.recv(100) == b"answer"
        stopping.join(PATIENCE)


class Works:
    """Goes on for a while when its connection is closed, and says so."""

    def __init__(self, note: str, seconds: float) -> None:
        self.note, self.seconds = note, seconds

    async def __call__(self, conn: Any) -> None:
        await conn.readline()
        await conn.sendall(b"accepted\n")
        conn.close()
        try:
            await asyncio.sleep(self.seconds)
            self.say("done")
        except asyncio.CancelledError:
            self.say("cancelled")
            raise

    def say(self, word: str) -> None:
        with open(self.note, "a") as file:
            file.write(f"{word}\n")


def test_a_handler_that_goes_on_is_waited_for(tmp_path: Any) -> None:
    note = tmp_path / "note"
    with Server(Works(str(note), 1.0), port=0, processes=1) as server:
        with connect(server.addresses[0]) as client:
            client.sendall(b"job\n")
            assert client.recv(100) == b"accepted\n"
            assert client.recv(100) == b""
        assert sums(server)["open"] == 1, "its place is taken"
    assert note.read_text() == "done\n"


def test_a_handler_that_goes_on_is_timed(tmp_path: Any) -> None:
    note = tmp_path / "note"
    with Server(Works(str(note), PATIENCE), port=0, processes=1, handler_timeout=0.5) as server:
        with connect(server.addresses[0]) as client:
            client.sendall(b"job\n")
            client.recv(100)
        wait_for_open(server, 0)
    assert note.read_text() == "cancelled\n"


SIZE = 4_000_000


async def sends_much(conn: Any) -> None:
    await conn.readline()
    await conn.sendall(bytes(SIZE))


def test_what_was_sent_last_is_taken_though_slowly() -> None:
    with Server(sends_much, port=0, processes=1) as server, connect(server.addresses[0]) as client:
        client.sendall(b"go\n")
        time.sleep(0.3)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(2.0)  # idle for longer than a moment
        got = 0
        while data := client.recv(1 << 16):
            got += len(data)
        assert got == SIZE
        stopping.join(PATIENCE)


def linger_briefly() -> None:
    """As an `on_start`: in the worker."""
    tasks.LINGER = 1.0


class FillsUp:
    """Sends until the kernel takes no more, and a little beyond that; tells how much that was."""

    def __init__(self, raises: bool = False) -> None:
        self.sent: Queue[int] = Queue()
        self.raises = raises

    async def __call__(self, conn: Any) -> None:
        conn.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        size = 0
        while not conn._transport.get_write_buffer_size():
            await conn.sendall(bytes(8192))
            await asyncio.sleep(0.01)
            size += 8192
        await conn.sendall(bytes(32768))
        self.sent.put(size + 32768)
        if self.raises:
            raise LookupError("what came next was not found")


@pytest.mark.parametrize("raises", [False, True])
def test_who_takes_something_is_not_given_up(raises: bool, caplog: pytest.LogCaptureFixture) -> None:
    """However long it needs for all."""
    handler = FillsUp(raises)
    with (
        Server(handler, port=0, processes=1, on_start=linger_briefly) as server,
        socket.socket() as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # else its kernel takes much for it
        client.connect(server.addresses[0])
        size = handler.sent.get(timeout=PATIENCE)
        got = 0
        until = time.monotonic() + 4.0
        while time.monotonic() < until:
            got += len(client.recv(1000))
            time.sleep(0.05)
        assert got + len(receive_all(client)) == size


def test_who_takes_nothing_sees_that_it_has_not_got_all() -> None:
    handler = FillsUp()
    with (
        Server(handler, port=0, processes=1, on_start=linger_briefly) as server,
        connect(server.addresses[0]) as client,
    ):
        handler.sent.get(timeout=PATIENCE)
        wait_for_open(server, 0)
        with pytest.raises(ConnectionResetError):
            receive_all(client)


def reads_a_number(conn: socket.socket) -> None:
    file = conn.makefile("rb")
    conn.sendall(b"%d\n" % int(file.readline()) ** 2)


def test_a_handler_that_raises_with_a_file_in_hand_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    with Server(reads_a_number, port=0, processes=1) as server, connect(server.addresses[0]) as client:
        client.sendall(b"abc\n")
        assert client.recv(10) == b""


async def cleans_up(conn: Any) -> None:
    try:
        await conn.recv(10)
    finally:
        await asyncio.sleep(1.2)
        await conn.sendall(b"clean")


def test_who_cleans_up_is_cancelled_once() -> None:
    server = Server(cleans_up, port=0, processes=1, handler_timeout=0.5)
    with server, connect(server.addresses[0]) as client:
        assert client.recv(10) == b"clean"


async def works_long(conn: Any) -> None:
    await conn.recv(10)
    await asyncio.sleep(2.0)
    await conn.sendall(b"answer")


def test_who_works_is_not_idle() -> None:
    server = Server(works_long, port=0, processes=1, idle_timeout=0.7)
    with server, connect(server.addresses[0]) as client:
        client.sendall(b"x")
        assert client.recv(10) == b"answer"


async def echo(conn: Any) -> None:
    await conn.sendall(await conn.recv())


def returns_a_coroutine(conn: Any) -> Any:
    return echo(conn)


async def yields(conn: Any) -> Any:
    yield await conn.recv()


def test_what_does_nothing_when_called_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TypeError, match="is a generator"):
        Server(yields, port=0)
    with Server(returns_a_coroutine, port=0, processes=1) as server:
        with connect(server.addresses[0]) as client:
            assert client.recv(10) == b""
        wait_for_open(server, 0)
        assert sums(server)["errors"] == 1
    assert "model='asyncio'" in caplog.text


def test_stopped_before_it_began() -> None:
    server = server_of("async", "echo", on_start=slow_start)
    threading.Timer(0.3, lambda: server.stop(now=True)).start()
    with pytest.raises(RuntimeError, match="stopped before"):
        server.start()


def slow_start() -> None:
    time.sleep(PATIENCE)
