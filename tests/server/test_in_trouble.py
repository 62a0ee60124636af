"""A server in trouble: no descriptor is free, its loop was held up, a handler fails in a connection that is closed."""

import asyncio
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from procoro import Server
from procoro.server.connection import Connection
from tests.promises.looks import wait_until
from tests.server import clients
from tests.server.clients import connect, tell
from tests.server.handlers import FailsIf
from tests.server.looks import records, server_of, sums, wait_for_open, worker_pids
from tests.server.test_tls import Certified, certified, serial

__all__ = ["certified"]

LONG = 20.0  # seconds


@contextmanager
def no_descriptor_free() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def is_said(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return any(words in record.getMessage() for record in records(caplog))


# ---------------------------------------------------------------------------------------- no descriptor


def test_a_worker_that_dies_then_is_replaced_later(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with server_of(kind, "obey", processes=2) as server, clients.several(server.addresses[0], 10) as live:
        of = {client: int(tell(client, "pid")) for client in live}
        victim = of[live[0]]
        with no_descriptor_free():
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: is_said(caplog, "Too many open files"), "no other can be made")
        for client, pid in of.items():
            assert pid == victim or tell(client, "pid") == pid
        wait_until(lambda: len(worker_pids() - {victim}) == 2, "it is replaced", LONG)
        with connect(server.addresses[0]) as client:
            assert tell(client, "pid") in worker_pids()


def test_a_restart_then_leaves_the_old_ones(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with server_of(kind, "obey", processes=2) as server, connect(server.addresses[0]) as client:
        pid = tell(client, "pid")
        with no_descriptor_free():
            server.restart()
            wait_until(lambda: is_said(caplog, "the old workers go on"), "it is told")
        assert tell(client, "pid") == pid
        server.restart()
        wait_until(lambda: pid not in worker_pids() and len(worker_pids()) == 2, "the next one does it", LONG)


# ------------------------------------------------------------------------------------- time, and its end


def test_idle_is_who_waits_and_hears_nothing() -> None:
    loop = asyncio.new_event_loop()
    tasks: Any = SimpleNamespace(cells=[0] * 6, loop=loop, now=0.0)
    connection = Connection(tasks)
    assert time.monotonic() - connection.began < LONG
    connection._reader = loop.create_future()
    assert [connection.idle(now) for now in (100.0, 100.5, 101.0)] == [0, 0.5, 1.0]
    connection.data_received(b"x")
    assert connection.idle(101.5) == 0, "something has arrived"
    assert connection.idle(102.0) == 0, "the handler does not wait: it has something to do"
    connection._reader = loop.create_future()
    assert [connection.idle(now) for now in (102.5, 103.0)] == [0, 0.5]
    loop.close()


def test_a_loop_that_was_held_up_closes_nobody_who_spoke(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with (
        server_of("async", "obey", idle_timeout=1.0) as server,
        connect(server.addresses[0]) as busy,
        clients.several(server.addresses[0], 10) as live,
    ):
        for client in live:
            tell(client, "pid")
        busy.sendall(f"stand {go}\n".encode())
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            for client in live:
                client.sendall(b"pid\n")
            time.sleep(0.1)
        go.touch()
        assert all(clients.line(client) for client in live)


def slow_start() -> None:
    time.sleep(LONG)


def test_stopped_while_a_worker_begins(kind: str) -> None:
    server = server_of(kind, "echo", on_start=slow_start, drain_timeout=LONG)
    began = time.monotonic()

    def start() -> None:
        with pytest.raises(RuntimeError, match="stopped before"):
            server.start()

    starting = threading.Thread(target=start)
    starting.start()
    wait_until(lambda: len(worker_pids()) == 1, "it is about to begin")
    address = server.addresses[0]
    stopping = threading.Thread(target=server.stop)
    stopping.start()

    def is_refused() -> bool:
        try:
            connect(address).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_until(is_refused, "nobody is taken in who would not be served")
    stopping.join()
    starting.join()
    assert time.monotonic() - began < LONG, "there is no connection that could be drained"


# ------------------------------------------------------------------------ what a handler raises is told


def closes_and_fails(conn: Any) -> None:
    with conn:
        conn.recv(1)
    open("/nonexistent/file")


def fails_when_it_is_left(conn: socket.socket) -> None:
    conn.shutdown(socket.SHUT_WR)
    while conn.recv(10):
        pass
    time.sleep(0.1)  # the other side is gone
    open("/nonexistent/file")


def fails_upstream(conn: socket.socket) -> None:
    conn.recv(1)
    raise TimeoutError("upstream")


async def closes_and_fails_upstream(conn: Any) -> None:
    await conn.recv(1)
    conn.close()
    raise ConnectionResetError("upstream")


@pytest.mark.parametrize(
    "handler",
    [closes_and_fails, fails_when_it_is_left, fails_upstream, closes_and_fails_upstream],
    ids=lambda f: f.__name__,
)
def test_an_error_is_told_though_the_connection_is_closed(handler: Any, caplog: pytest.LogCaptureFixture) -> None:
    with Server(handler, port=0, processes=1, idle_timeout=60) as server:
        with connect(server.addresses[0]) as client:
            client.sendall(b"x")
        wait_until(lambda: sums(server)["accepted"] == 1, "it has come")
        wait_for_open(server, 0)
        assert sums(server)["errors"] == 1
    assert is_said(caplog, " raised ")


def reads(conn: Any) -> None:
    while conn.recv(10):
        pass


def reads_by_file(conn: socket.socket) -> None:
    with conn, conn.makefile("rb") as file:
        file.read()


async def reads_async(conn: Any) -> None:
    while await conn.recv(10):
        pass


@pytest.mark.parametrize("handler", [reads, reads_by_file, reads_async])
def test_a_client_that_is_gone_is_no_error(handler: Any, caplog: pytest.LogCaptureFixture) -> None:
    with Server(handler, port=0, processes=1) as server:
        with connect(server.addresses[0]) as client:
            client.sendall(b"x")
            wait_for_open(server, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        wait_for_open(server, 0)
        assert sums(server)["errors"] == 0
    assert not records(caplog)


def reads_in_another_greenlet(conn: socket.socket) -> None:
    import gevent

    gevent.joinall([gevent.spawn(reads, conn)], raise_error=True)


def reads_a_copy(conn: socket.socket) -> None:
    with conn.dup() as copy:
        reads(copy)


@pytest.mark.parametrize("handler", [reads_in_another_greenlet, reads_a_copy])
def test_nor_where_its_error_leaves_no_trace(handler: Any, caplog: pytest.LogCaptureFixture) -> None:
    test_a_client_that_is_gone_is_no_error(handler, caplog)


def reads_a_line(conn: socket.socket) -> None:
    file = conn.makefile("rb")
    file.readline()


def test_who_is_idle_is_closed_though_a_file_was_made_of_it() -> None:
    with Server(reads_a_line, port=0, processes=1, idle_timeout=0.3) as server, connect(server.addresses[0]) as client:
        assert client.recv(1) == b""


def test_stopped_while_another_worker_comes(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        server = server_of(kind, "echo", processes=2).start()
        server.restart()
        server.stop()
    assert not records(caplog)


def starts_in_vain(server: Server) -> None:
    with pytest.raises(RuntimeError, match="stopped before"):
        server.start()


def test_stopped_before_it_has_heard_that_its_worker_accepts(kind: str) -> None:
    """Whom that serves already, is served to the end."""
    server = server_of(kind, "obey", processes=1)
    connected = threading.Event()
    server._post(connected.wait)  # so long, no news is heard
    server._post(lambda: server._stop(now=False))
    starting = threading.Thread(target=starts_in_vain, args=(server,))
    starting.start()
    with connect(server.addresses[0]) as client:
        client.sendall(b"wait 1\n")
        assert clients.line(client) == b"waits\n"
        connected.set()
        assert clients.line(client) == b'"ok"\n'
    starting.join()


# -------------------------------------------------------------------------------------------------- TLS


async def four_at_once(conn: Any) -> None:
    await conn.recv(1)
    await asyncio.gather(*(conn.sendall(bytes([number]) * 4_000_000) for number in range(4)))


async def cancels_one(conn: Any) -> None:
    await conn.recv(1)
    first = asyncio.create_task(conn.sendall(b"a" * 20_000_000))
    await asyncio.sleep(0.5)
    first.cancel()
    await conn.sendall(b"b")


def all_of(client: socket.socket) -> bytes:
    """What comes for an "x", taken late: then the server has to wait in the midst of it."""
    client.sendall(b"x")
    time.sleep(1.0)
    parts = []
    while part := client.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def test_by_tls_too_each_message_is_whole(certified: Certified) -> None:
    server = Server(four_at_once, port=0, processes=1, **certified.issue())
    with server, certified.connect(server.addresses[0]) as client:
        assert all_of(client) == b"".join(bytes([number]) * 4_000_000 for number in range(4))


def test_by_tls_too_a_message_that_is_cancelled_is_whole(certified: Certified) -> None:
    server = Server(cancels_one, port=0, processes=1, **certified.issue())
    with server, certified.connect(server.addresses[0]) as client:
        assert all_of(client) == b"a" * 20_000_000 + b"b"


def test_after_a_restart_that_failed_all_have_the_old_certificate(
    kind: str, certified: Certified, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fail = tmp_path / "fail"
    with server_of(kind, "obey", processes=2, on_start=FailsIf(fail), **certified.issue()) as server:
        with certified.connect(server.addresses[0]) as client:
            old = serial(client)
        before = worker_pids()
        certified.issue()
        fail.touch()
        server.restart()
        wait_until(lambda: is_said(caplog, "the old workers go on"), "it is told")
        fail.unlink()
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(worker_pids() - {min(before)}) == 2, "it is replaced", LONG)
        for _ in range(20):
            with certified.connect(server.addresses[0]) as client:
                assert serial(client) == old
