"""TLS: who is trusted, what is told of a bad certificate, and that the rest goes on as without it."""

import datetime
import logging
import os
import shutil
import signal
import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from procoro import Event, Server
from tests.promises.looks import wait_until
from tests.server import clients
from tests.server.clients import ask, connect, is_closed, receive_all, tell
from tests.server.conftest import Serving
from tests.server.looks import own_memory, records, server_of, sums, wait_for_open, worker_pids

DAY = datetime.timedelta(days=1)


class Certified:
    """Files of certificates for 127.0.0.1 in a folder, and clients who trust in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.client_ca = str(folder / "authority.pem")
        self.authority.cert_pem.write_to_path(self.client_ca)

    def issue(self, name: str = "server", days: int = 30) -> dict[str, str]:
        """The arguments of a server."""
        until = datetime.datetime.now(datetime.UTC) + days * DAY
        issued = self.authority.issue_cert("127.0.0.1", not_before=until - 60 * DAY, not_after=until)
        files = {"certfile": str(self.folder / f"{name}.pem"), "keyfile": str(self.folder / f"{name}.key")}
        Path(files["certfile"]).write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(files["keyfile"])
        return files

    def connect(self, address: Any, signed_by: trustme.CA | None = None) -> ssl.SSLSocket:
        """A client that verifies who the server is; and has a certificate that somebody has signed."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if signed_by is not None:
            signed_by.issue_cert("client@example.org").configure_cert(context)
        return context.wrap_socket(connect(address), server_hostname="127.0.0.1")


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    return Certified(tmp_path)


def serial(client: ssl.SSLSocket) -> Any:
    """The number of the server's certificate."""
    certificate = client.getpeercert()
    assert certificate
    return certificate["serialNumber"]


def test_what_is_sent_comes_back(kind: str, certified: Certified) -> None:
    with server_of(kind, "echo", **certified.issue()) as server, certified.connect(server.addresses[0]) as client:
        assert client.version() == "TLSv1.3"
        assert ask(client) == b"hello"
        for _ in range(100):
            large = os.urandom(1 << 16)
            assert ask(client, large) == large
        wait_for_open(server, 1)


def test_certificate_and_key_in_one_file(kind: str, certified: Certified) -> None:
    files = certified.issue()
    both = Path(files["certfile"])
    both.write_bytes(Path(files["keyfile"]).read_bytes() + both.read_bytes())
    with server_of(kind, "echo", certfile=both) as server, certified.connect(server.addresses[0]) as client:
        assert ask(client) == b"hello"


def test_its_end_is_said(kind: str, certified: Certified) -> None:
    """A client can tell it from a connection that somebody has cut."""
    with server_of(kind, "nodelay", **certified.issue()) as server, certified.connect(server.addresses[0]) as client:
        client.suppress_ragged_eofs = False
        assert receive_all(client) == b"1"


def test_a_client_must_show_its_certificate(kind: str, certified: Certified, caplog: pytest.LogCaptureFixture) -> None:
    with server_of(kind, "echo", client_ca=certified.client_ca, **certified.issue()) as server:
        with certified.connect(server.addresses[0], certified.authority) as client:
            assert ask(client) == b"hello"
        for signed_by in (None, trustme.CA()):
            heard = b""
            with suppress(OSError), certified.connect(server.addresses[0], signed_by) as client:
                heard = ask(client)
            assert not heard
        wait_for_open(server, 0)
        assert sums(server)["errors"] == 0
    assert not records(caplog)


@pytest.mark.parametrize("say", [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01", b""])
def test_who_speaks_no_tls(kind: str, say: bytes, certified: Certified, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "procoro.server")
    with server_of(kind, "echo", handshake_timeout=1.0, **certified.issue()) as server:
        with connect(server.addresses[0]) as client, certified.connect(server.addresses[0]) as other:
            client.sendall(say)
            assert ask(other) == b"hello"
            began = time.monotonic()
            with suppress(ConnectionError):
                receive_all(client)
            assert time.monotonic() - began < 10, "also if it says nothing more"
            wait_for_open(server, 1)
        wait_for_open(server, 0)
        assert sums(server)["errors"] == 0


def test_handshakes_that_fail_leak_nothing(kind: str, certified: Certified) -> None:
    with server_of(kind, "obey", **certified.issue()) as server, certified.connect(server.addresses[0]) as client:
        before = tell(client, "files 0")
        for number in range(60):
            with connect(server.addresses[0]) as other:
                other.sendall((b"no TLS", b"\x16\x03\x01", b"")[number % 3])
        wait_until(lambda: sums(server)["accepted"] == 61, "all have been accepted", 20)
        wait_for_open(server, 1)
        wait_until(lambda: tell(client, "files 0") <= before, "no descriptor is left", 20)


def test_handshakes_count_as_connections(kind: str, certified: Certified) -> None:
    with (
        server_of(kind, "echo", max_connections=5, handshake_timeout=1.0, **certified.issue()) as server,
        clients.several(server.addresses[0], 6),
    ):
        wait_for_open(server, 5)
        with certified.connect(server.addresses[0]) as client:
            assert ask(client) == b"hello", "when their time is up"


def test_a_restart_takes_the_new_certificate(kind: str, certified: Certified, caplog: pytest.LogCaptureFixture) -> None:
    files = certified.issue()
    with server_of(kind, "obey", processes=2, **files) as server, certified.connect(server.addresses[0]) as old:
        before, first = worker_pids(), serial(old)
        assert tell(old, "pid") in before
        certified.issue()
        server.restart()
        wait_until(lambda: not worker_pids() & before and len(worker_pids()) == 2, "all are new", 30)
        assert is_closed(old)
        with certified.connect(server.addresses[0]) as new:
            second = serial(new)
            assert second != first
        now = worker_pids()
        for spoil in (lambda: certified.issue(days=-1), lambda: Path(files["keyfile"]).unlink()):
            caplog.clear()
            spoil()
            server.restart()
            wait_until(lambda: bool(records(caplog)), "it is refused")
            assert "the server is not restarted: " in records(caplog)[0].getMessage()
            with certified.connect(server.addresses[0]) as still:
                assert tell(still, "pid") in now and serial(still) == second
        os.kill(min(now), signal.SIGKILL)
        wait_until(lambda: len(worker_pids() - now) == 1, "it is replaced, with what was good")
        for _ in range(20):
            with certified.connect(server.addresses[0]) as still:
                assert serial(still) == second


def test_what_was_received_is_answered_at_the_end(kind: str, certified: Certified, serving: Serving) -> None:
    program, address = serving(kind, "obey", processes=2, **certified.issue())
    live = [certified.connect(address) for _ in range(100)]
    pids = {tell(client, "pid") for client in live}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for client in live:
        client.sendall(b"pid\npid\n")
    program.send_signal(signal.SIGTERM)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert [int(clients.line(client)) in pids for client in live for _ in range(2)] == [True] * 200
    began = time.monotonic()
    assert all(is_closed(client) for client in live)
    program.communicate(timeout=20)
    assert program.returncode == 0 and time.monotonic() - began < 10
    for client in live:
        client.close()


def test_a_handshake_that_does_not_come_holds_up_no_end(
    kind: str, certified: Certified, caplog: pytest.LogCaptureFixture
) -> None:
    server = server_of(kind, "echo", handshake_timeout=60, drain_timeout=60, **certified.issue()).start()
    with clients.several(server.addresses[0], 3) as silent:
        silent[0].sendall(b"\x16\x03\x01")
        wait_for_open(server, 3)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 20
        for client in silent:
            with suppress(ConnectionError):
                receive_all(client)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_who_goes_on_sending_meets_the_end(kind: str, certified: Certified) -> None:
    server = server_of(kind, "echo", drain_timeout=20, **certified.issue()).start()
    with certified.connect(server.addresses[0]) as client:
        assert ask(client) == b"hello"
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        began = time.monotonic()
        try:
            while ask(client):
                assert time.monotonic() - began < 10
        except OSError:
            pass
        stopping.join(20)
        assert not stopping.is_alive() and time.monotonic() - began < 10


def test_a_client_that_never_reads(kind: str, certified: Certified) -> None:
    with server_of(kind, "echo", **certified.issue()) as server, certified.connect(server.addresses[0]) as deaf:
        (worker,) = worker_pids()
        with certified.connect(server.addresses[0]) as other:
            assert ask(other) == b"hello"
            before = own_memory(worker)
            deaf.settimeout(1.0)
            data = bytes(1 << 20)
            with pytest.raises(TimeoutError):
                all(deaf.sendall(data) is None for _ in range(1024))
            assert ask(other) == b"hello"
            assert own_memory(worker) - before < 8 << 20


def test_a_client_that_is_gone_in_the_middle(kind: str, certified: Certified) -> None:
    with server_of(kind, "echo", **certified.issue()) as server:
        for _ in range(20):
            client = certified.connect(server.addresses[0])
            client.sendall(bytes(100_000))
            clients.reset(client)
        wait_for_open(server, 0)
        assert sums(server)["errors"] == 0


def wrong(certified: Certified) -> list[tuple[dict[str, Any], type[Exception], str]]:
    """Arguments, and what is said of them."""
    good, expired, other = certified.issue(), certified.issue("expired", -1), certified.issue("other")
    coming = certified.issue("coming", 100)
    empty, broken = certified.folder / "empty", certified.folder / "broken"
    empty.touch()
    broken.write_bytes(Path(good["certfile"]).read_bytes()[:300])
    shutil.copy(good["certfile"], certified.folder / "secret")
    return [
        ({"certfile": "no.such.file"}, FileNotFoundError, "certfile cannot be read: No such file or directory: 'no.s"),
        (good | {"keyfile": "no.such.file"}, FileNotFoundError, "keyfile cannot be read: No such file"),
        (good | {"client_ca": str(certified.folder)}, IsADirectoryError, "client_ca cannot be read: Is a directory"),
        (expired, ValueError, r"TLS is not possible with .*expired.pem, .*: certificate has expired"),
        (coming, ValueError, r"TLS is not possible with .*coming.pem, .*: certificate is not yet valid"),
        (good | {"keyfile": other["keyfile"]}, ValueError, r"(?i)TLS is not possible with .*: key.values.mismatch"),
        (good | {"certfile": str(empty)}, ValueError, "TLS is not possible with .*empty, "),
        (good | {"certfile": str(broken)}, ValueError, "TLS is not possible with .*broken, "),
        (good | {"client_ca": str(empty)}, ValueError, "TLS is not possible with .*empty: "),
        ({"certfile": good["certfile"]}, ValueError, "TLS is not possible with .*server.pem: "),
        ({"keyfile": good["keyfile"]}, ValueError, "keyfile is of no use without a certfile"),
        ({"client_ca": good["certfile"]}, ValueError, "client_ca is of no use without a certfile"),
        ({"certfile": 5}, TypeError, "certfile must be the path of a file in PEM format, got 5"),
        (good | {"handshake_timeout": 0}, ValueError, "handshake_timeout must be > 0 seconds"),
    ]


def test_what_is_wrong_is_said_at_the_door(certified: Certified) -> None:
    for settings, error, words in wrong(certified):
        with pytest.raises(error, match=words):
            server_of("async", "echo", **settings)


def test_a_key_with_a_password_is_refused(certified: Certified) -> None:
    """And nobody is asked for it at a terminal."""
    from cryptography.hazmat.primitives import serialization

    files = certified.issue()
    key = serialization.load_pem_private_key(Path(files["keyfile"]).read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    Path(files["keyfile"]).write_bytes(locked)
    with pytest.raises(ValueError, match="the key has a password"):
        server_of("async", "echo", **files)


def test_by_a_unix_socket(kind: str, certified: Certified) -> None:
    path = str(certified.folder / "socket")
    with (
        server_of(kind, "echo", port=None, path=path, **certified.issue()),
        certified.connect(path) as client,
    ):
        assert ask(client) == b"hello"
        assert isinstance(client, socket.socket)


class SendsMuch:
    """And says when that is done."""

    def __init__(self, sent: Event, size: int) -> None:
        self.sent, self.size = sent, size

    async def __call__(self, conn: Any) -> None:
        await conn.sendall(bytes(self.size))
        self.sent.set()


def test_sendall_waits_for_who_does_not_take_it(certified: Certified) -> None:
    """It gave all to TLS at once, which took it."""
    size, sent = 20_000_000, Event()
    server = Server(SendsMuch(sent, size), port=0, processes=1, **certified.issue())
    with server, certified.connect(server.addresses[0]) as client:
        assert not sent.wait(1.0)
        got = 0
        while got < size:
            got += len(client.recv(1 << 16))
        assert sent.wait(5.0)
