"""What may not be exceeded, and what is left to wait."""

import socket
import time
from contextlib import suppress
from typing import Any

import pytest

from procoro import Server
from tests.promises.looks import wait_until
from tests.server import clients
from tests.server.clients import ask, connect, is_closed
from tests.server.conftest import Serving
from tests.server.looks import cpu_seconds, records, server_of, sums, wait_for_open, worker_pids


def test_who_is_too_many_waits(kind: str) -> None:
    with server_of(kind, "echo", max_connections=5) as server:
        with clients.several(server.addresses[0], 5) as live, clients.several(server.addresses[0], 10) as waiting:
            wait_for_open(server, 5)
            for client in waiting:
                client.sendall(b"hello")
            (pid,) = worker_pids()
            before = cpu_seconds(pid)
            waiting[0].settimeout(1.0)
            with pytest.raises(TimeoutError):
                waiting[0].recv(1)
            assert cpu_seconds(pid) - before <= 0.2, "it does not spin"
            assert sums(server)["accepted"] == 5
            assert all(ask(client) == b"hello" for client in live)
            waiting[0].settimeout(20)
            for client in waiting:
                live.pop().close() if live else waiting[waiting.index(client) - 5].close()
                assert clients.receive(client, 5) == b"hello"
        wait_for_open(server, 0)
        assert sums(server)["accepted"] == 15


def test_too_many_of_one_address_are_closed(kind: str) -> None:
    with server_of(kind, "echo", host=["127.0.0.1", "::1"], max_per_address=3) as server:
        here, there = server.addresses
        with clients.several(here, 3) as live, clients.several(there, 3) as others:
            assert all(ask(client) == b"hello" for client in (*live, *others))
            with connect(here) as client:
                assert is_closed(client)
            live.pop().close()
            wait_for_open(server, 5)
            with connect(here) as client:
                assert ask(client) == b"hello"


def test_a_path_has_no_addresses(kind: str, tmp_path: object) -> None:
    with (
        server_of(kind, "echo", port=None, path=f"{tmp_path}/socket", max_per_address=2) as server,
        clients.several(server.addresses[0], 5) as live,
    ):
        assert all(ask(client) == b"hello" for client in live)


def test_who_is_idle_is_closed(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with server_of(kind, "echo", idle_timeout=0.6) as server:
        with connect(server.addresses[0]) as idle, connect(server.addresses[0]) as busy:
            until = time.monotonic() + 2.5
            while time.monotonic() < until:
                assert ask(busy) == b"hello"
                time.sleep(0.02)
            assert is_closed(idle)
            assert is_closed(busy), "when it says no more"
        wait_for_open(server, 0)
        assert sums(server)["errors"] == 0
    assert not records(caplog)


def test_a_connection_has_its_time(kind: str) -> None:
    with server_of(kind, "echo", handler_timeout=1.0) as server, connect(server.addresses[0]) as client:
        began = time.monotonic()
        with suppress(ConnectionError):
            while ask(client):
                assert time.monotonic() - began < 10
                time.sleep(0.01)
        assert time.monotonic() - began > 0.5


def test_lines_and_messages_have_a_limit() -> None:
    with server_of("async", "lines", max_line=10) as server, connect(server.addresses[0]) as client:
        assert ask(client, b"123456789\n") == b"<123456789"
        assert clients.receive(client, 1) == b"\n"
        client.sendall(b"1234567890\n")
        assert is_closed(client)
    with server_of("async", "messages", max_message=10) as server, connect(server.addresses[0]) as client:
        client.sendall(b"\0\0\0\x0a1234567890")
        assert clients.receive(client, 5)[:4] == b"\0\0\0\x0a"
        client.sendall(b"\0\0\0\x0b")
        assert is_closed(client)


def test_few_descriptors(kind: str, serving: Serving) -> None:
    """Nobody is accepted to be closed at once; the others wait, and cost nothing."""
    program, address = serving(kind, "echo", files=64)
    wait_until(lambda: worker_pids(program.pid), "a worker is there")
    (pid,) = worker_pids(program.pid)
    with clients.several(address, 200) as live:
        for client in live:
            client.sendall(b"hello")
        served = 0
        deadline = time.monotonic() + 20
        while served < 20 and time.monotonic() < deadline:
            served = sum(_has_answer(client) for client in live)
        before, began = cpu_seconds(pid), time.monotonic()
        live[-1].settimeout(2.0)
        with pytest.raises(TimeoutError):
            live[-1].recv(1)
        cores = (cpu_seconds(pid) - before) / (time.monotonic() - began)
        served = sum(_has_answer(client) for client in live)
        closed = sum(_is_over(client) for client in live)
        print(f"{kind}: {served} of 200 served, {closed} closed, {cores:.3f} cores while the others wait")
        assert served >= 20 and closed == 0 and cores <= 0.1
    answers = []
    for _ in range(20):
        with connect(address) as client:
            answers.append(ask(client))
    assert answers == [b"hello"] * 20
    program.terminate()
    _, said = program.communicate(timeout=30)
    assert program.returncode == 0 and "Traceback" not in said, said


def _has_answer(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(5, socket.MSG_PEEK) == b"hello"
    except BlockingIOError:
        return False


def _is_over(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def floods(conn: Any) -> None:
    while True:
        await conn.sendall(bytes(1 << 16))


def test_who_takes_nothing_is_idle_too() -> None:
    """A client that never reads keeps no handler for ever."""
    with Server(floods, port=0, processes=1, idle_timeout=0.6) as server, connect(server.addresses[0]):
        wait_until(lambda: server.stats()[0]["accepted"] == 1, "it is accepted")
        wait_until(lambda: server.stats()[0]["open"] == 0, "it is closed", 20.0)
