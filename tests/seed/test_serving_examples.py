"""Examples of `serve` beyond the seed program: each runs as a program of its own, and clients speak to it."""

import os
import signal
import socket
import ssl
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.programs import Program, programs
from tests.promises.looks import wait_until
from tests.seed.conftest import EXAMPLES

PATIENCE = 20.0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _listens(server: Program, port: int) -> bool:
    assert server.poll() is None, server.communicate()
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def _client(authority: trustme.CA, port: int) -> ssl.SSLSocket:
    """One that verifies who the server is."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), PATIENCE), server_hostname="127.0.0.1")


def test_the_echo_server_over_tls(tmp_path: Path) -> None:
    authority, port = trustme.CA(), _free_port()
    issued = authority.issue_cert("127.0.0.1")
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    certfile.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(keyfile))
    with programs(tmp_path) as launch:
        command = [sys.executable, EXAMPLES / "tls_echo.py", certfile, keyfile, port]
        server = launch(command, dict(os.environ))
        wait_until(lambda: _listens(server, port), "it listens", PATIENCE)
        with ExitStack() as stack:
            clients = [stack.enter_context(_client(authority, port)) for _ in range(8)]
            for number, client in enumerate(clients):
                client.sendall(b"%d" % number * 100)
            for number, client in enumerate(clients):
                assert client.recv(1024) == b"%d" % number * 100
            with pytest.raises(ssl.SSLCertVerificationError):
                _client(trustme.CA(), port)
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=PATIENCE)
        assert (server.returncode, said) == (0, "")
