"""Handlers in trouble harm their own connection only; and what a server tells of all."""

import logging
import re
from pathlib import Path

import pytest

from tests.promises.looks import wait_until
from tests.server import clients
from tests.server.clients import ask, connect, is_closed, tell
from tests.server.looks import records, server_of, sums, wait_for_open


@pytest.mark.parametrize("words", ["raise here", "exit", "interrupt", "upstream"])
def test_what_a_handler_raises_is_logged_and_closes_its_connection(
    kind: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with server_of(kind, "obey") as server:
        with connect(server.addresses[0]) as other, connect(server.addresses[0]) as client:
            pid = tell(other, "pid")
            client.sendall(words.encode() + b"\n")
            peer = client.getsockname()
            assert is_closed(client)
            assert tell(other, "pid") == pid
        wait_for_open(server, 0)
        assert sums(server)["errors"] == 1
    (record,) = records(caplog)
    assert record.levelno == logging.ERROR and record.process == pid
    assert f"the handler of {peer} raised " in record.getMessage()
    assert "in done" in (record.exc_text or "")


def test_a_handler_that_blocks_its_loop_is_named(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    go = tmp_path / "go"
    with server_of(kind, "obey", processes=2) as server, connect(server.addresses[0]) as client:
        pid = tell(client, "pid")
        client.sendall(f"stand {go}\n".encode())
        try:
            wait_until(lambda: records(caplog, "procoro"), "it is noticed", 20)
        finally:
            go.touch()
        assert clients.line(client) == b'"ok"\n'
    words = records(caplog, "procoro")[0].getMessage()
    assert f"worker {pid} has not come back to its event loop" in words and " in done" in words


def test_a_handler_that_hangs_lets_the_others_go_on(kind: str) -> None:
    with (
        server_of(kind, "obey", drain_timeout=0.2) as server,
        connect(server.addresses[0]) as hanging,
        connect(server.addresses[0]) as other,
    ):
        hanging.sendall(b"wait 60\n")
        assert clients.line(hanging) == b"waits\n"
        assert tell(other, "pid")


def test_counters(kind: str) -> None:
    with server_of(kind, "echo", processes=2) as server:
        assert [set(one) for one in server.stats()] == [{"accepted", "open", "received", "sent", "errors", "lag"}] * 2
        with clients.several(server.addresses[0], 10) as live:
            assert all(ask(client, b"x" * 100) == b"x" * 100 for client in live)
            found = sums(server)
            assert (found["accepted"], found["open"], found["errors"]) == (10, 10, 0)
            assert (found["received"], found["sent"]) == ((1000, 1000) if kind == "async" else (0, 0))
        wait_for_open(server, 0)
        assert sums(server)["accepted"] == 10
    assert server.stats() == []


def test_a_line_for_each_connection(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "procoro.server.access")
    with server_of(kind, "obey") as server:
        peers = []
        for words in ("pid", "raise x"):
            with connect(server.addresses[0]) as client:
                client.sendall(words.encode() + b"\n")
                clients.line(client)
                peers.append(client.getsockname())
            wait_for_open(server, 0)
    lines = [record.getMessage() for record in records(caplog, "procoro.server.access")]
    assert len(lines) == 2
    for line, peer, word in zip(lines, peers, ("ok", "failed"), strict=True):
        assert re.fullmatch(re.escape(str(peer)) + rf" {word} \d+\.\d\d\d s", line), line


def test_no_access_log_unless_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with server_of("async", "echo") as server, connect(server.addresses[0]) as client:
        assert ask(client) == b"hello"
    assert not records(caplog, "procoro.server.access")
