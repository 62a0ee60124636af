"""What is sent comes back, however it is sent."""

import socket
import threading

import pytest

from procoro.server.connection import HIGH
from tests.promises.looks import wait_until
from tests.server import clients
from tests.server.clients import ask, ask_large, connect, receive, receive_all, tell
from tests.server.looks import MIB, own_memory, records, server_of, sums, wait_for_open, worker_pids


@pytest.mark.parametrize("size", [64, 16 * 1024, 10_000_000])
def test_all_comes_back(kind: str, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    with server_of(kind, "echo") as server, connect(server.addresses[0]) as client:
        assert ask_large(client, data) == data
        assert ask(client) == b"hello"


def test_recv_gives_up_to_so_many() -> None:
    data = bytes(range(256)) * 40
    with server_of("async", "recv") as server, connect(server.addresses[0]) as client:
        assert ask_large(client, data) == data


def test_a_client_that_has_sent_all_gets_its_answer(kind: str) -> None:
    data = b"x" * 3_000_000
    with server_of(kind, "echo") as server, connect(server.addresses[0]) as client:
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        sender.start()
        assert receive_all(client) == data
        sender.join()
        wait_for_open(server, 0)


def test_byte_by_byte(kind: str) -> None:
    with server_of(kind, "obey") as server, connect(server.addresses[0]) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"peer\n":
            client.send(bytes([byte]))
        assert clients.line(client).startswith(b'["127.0.0.1", ')


def test_a_slow_reader_gets_all(kind: str) -> None:
    data = bytes(range(256)) * 40_000
    with server_of(kind, "echo") as server, connect(server.addresses[0]) as slow, connect(server.addresses[0]) as other:
        sender = threading.Thread(target=slow.sendall, args=(data,))
        sender.start()
        got = bytearray()
        while len(got) < len(data):
            assert ask(other) == b"hello"
            got += receive(slow, min(100_000, len(data) - len(got)))
        sender.join()
        assert got == data


def test_many_lines_at_once() -> None:
    """Short ones cost no copy of all that is behind them."""
    lines = b"".join(b"%d\n" % number for number in range(50_000))
    with server_of("async", "lines") as server, connect(server.addresses[0]) as client:
        got = ask_large(client, lines, len(lines) + 50_000)
        assert got == lines.replace(b"\n", b"\n<")[:-1].join([b"<", b""])


def test_peers_are_told(kind: str) -> None:
    with server_of(kind, "obey") as server, connect(server.addresses[0]) as client:
        assert tell(client, "peer") == list(client.getsockname())


def test_who_never_reads_costs_no_memory(kind: str) -> None:
    """And others are served."""
    with (
        server_of(kind, "echo") as server,
        server_of(kind, "obey") as told,
        connect(server.addresses[0]) as greedy,
        connect(server.addresses[0]) as other,
    ):
        assert ask(other) == b"hello" and ask(greedy) == b"hello"
        (pid,) = worker_pids() - {clients.once(told.addresses[0], "pid")}
        before = own_memory(pid)
        greedy.settimeout(1.0)
        sent = 0
        chunk = b"x" * MIB
        with pytest.raises(TimeoutError):  # noqa: PT012
            while sent < 1024 * MIB:
                sent += greedy.send(chunk)
        grown = own_memory(pid) - before
        print(f"{kind}: it took {sent / MIB:.1f} MiB, and grew by {grown / MIB:.2f} MiB")
        assert sent < 64 * MIB
        assert grown <= 3 * MIB
        assert ask_large(other, b"y" * MIB) == b"y" * MIB


def test_a_line_that_never_ends(caplog: pytest.LogCaptureFixture) -> None:
    with server_of("async", "obey") as server:
        pid = clients.once(server.addresses[0], "pid")
        before = own_memory(pid)
        with connect(server.addresses[0]) as client:
            sent = 0
            with pytest.raises(ConnectionError):  # noqa: PT012
                while sent < 1024 * MIB:
                    sent += client.send(b"x" * MIB)
        grown = own_memory(pid) - before
        print(f"it took {sent / MIB:.1f} MiB and grew by {grown / MIB:.2f} MiB")
        assert sent < 64 * MIB and grown <= 3 * MIB
        wait_until(lambda: records(caplog), "it is logged")
        assert "a line longer than the server's max_line of 65,536 bytes" in records(caplog)[0].getMessage()
        assert clients.once(server.addresses[0], "pid") == pid


def test_a_reset_in_mid_stream_is_no_error_and_harms_no_other(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with server_of(kind, "echo") as server, connect(server.addresses[0]) as other:
        for size in (1, 100_000, 5_000_000):
            client = connect(server.addresses[0])
            client.settimeout(0.2)
            try:
                client.sendall(b"x" * size)
            except TimeoutError:  # we do not read
                pass
            clients.reset(client)
            assert ask(other) == b"hello"
        wait_for_open(server, 1)
        assert sums(server)["errors"] == 0 and sums(server)["accepted"] == 4
    assert not records(caplog)


def test_more_than_the_buffer_holds_waits_in_the_kernel() -> None:
    """One message may be larger than what is read ahead."""
    size = 20 * HIGH
    body = b"\1" * size
    with server_of("async", "messages") as server, connect(server.addresses[0]) as client:
        answer = ask_large(client, (size.to_bytes(4, "big") + body) * 3, 15)
        assert answer == (size.to_bytes(4, "big") + bytes([size % 256])) * 3
        client.sendall((0).to_bytes(4, "big"))
        assert receive(client, 5) == bytes(5)
