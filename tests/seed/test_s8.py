"""Seed program S8: the tutorial's echo server, on its port; and a chat across workers."""

import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.programs import programs
from tests.promises.looks import wait_until
from tests.seed.conftest import EXAMPLES

PORT = 9001


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_the_echo_server_of_the_tutorial(tmp_path: Path) -> None:
    if _connects(PORT):
        pytest.skip(f"port {PORT} is in use")
    with programs(tmp_path) as launch:
        server = launch([sys.executable, str(EXAMPLES / "s8_echo.py")], dict(os.environ))
        wait_until(lambda: _connects(PORT), "it listens", 20)
        with ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", PORT), 20)) for _ in range(20)]
            for number, client in enumerate(clients):
                client.sendall(b"%d" % number * 100)
            for number, client in enumerate(clients):
                assert client.recv(1024) == b"%d" % number * 100
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=20)
        assert server.returncode == 0


def test_a_chat_goes_to_everybody_whichever_worker_has_them(tmp_path: Path) -> None:
    port = _free_port()
    with programs(tmp_path) as launch:
        server = launch([sys.executable, str(EXAMPLES / "chat.py"), str(port)], dict(os.environ))
        wait_until(lambda: _connects(port), "it listens", 20)
        with ExitStack() as stack:
            talkers = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(12)]
            for number, talker in enumerate(talkers):  # each is heard by itself: so it has been let in
                line = b"%d is here\n" % number
                talker.sendall(line)
                heard = b""
                while line not in heard:
                    heard += talker.recv(1000)
            talkers[0].sendall(b"hello, all\n")
            for talker in talkers:
                heard = b""
                while not heard.endswith(b"hello, all\n"):
                    heard += talker.recv(1000)
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=20)
        assert server.returncode == 0
