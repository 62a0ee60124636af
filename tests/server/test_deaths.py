"""Workers that die: only their own connections are lost, and others take their place."""

import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.promises.looks import kill, wait_until
from tests.server import clients
from tests.server.clients import Hammer, connect, is_closed, tell
from tests.server.handlers import FailsIf
from tests.server.looks import records, server_of, template_pids, worker_pids


def test_kill_under_load(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with server_of(kind, "obey", processes=2) as server, clients.several(server.addresses[0], 64) as live:
        of = {client: tell(client, "pid") for client in live}
        victim, survivor = set(of.values())
        assert min(Counter(of.values()).values()) >= 8, "the kernel spreads them"
        with Hammer(server.addresses[0], 2, b"pid\n") as hammer:
            wait_until(lambda: hammer.began, "the load is on")
            began = time.monotonic()
            kill(victim)
            pids = [clients.once(server.addresses[0], "pid") for _ in range(100)]
            wait_until(lambda: clients.once(server.addresses[0], "pid") not in (victim, survivor), "it is replaced")
            took = time.monotonic() - began
        print(f"{kind}: 100 new ones served and the replacement met within {took:.2f} s, {len(hammer.errors)} cut")
        assert len(pids) == 100 and victim not in pids and took < 10
        assert len(hammer.errors) <= 2, "those that it had accepted: one a thread"
        for client, pid in of.items():
            assert is_closed(client) if pid == victim else tell(client, "pid") == survivor
    assert len(records(caplog)) == 1
    words = records(caplog)[0].getMessage()
    assert words == f"procoro: a worker of the server is replaced: worker {victim} was killed by SIGKILL"


def test_the_template_dies_too(kind: str) -> None:
    with server_of(kind, "obey", processes=2) as server, clients.several(server.addresses[0], 20) as live:
        of = {client: tell(client, "pid") for client in live}
        for pid in template_pids():
            kill(pid)
        assert all(tell(client, "pid") == pid for client, pid in of.items()), "nobody minds"
        victim, survivor = set(of.values())
        kill(victim)
        wait_until(lambda: clients.once(server.addresses[0], "pid") not in (victim, survivor), "it is replaced", 20)
        assert all(is_closed(client) for client, pid in of.items() if pid == victim)
        assert all(tell(client, "pid") == survivor for client, pid in of.items() if pid == survivor)


def test_who_dies_at_once_again_and_again_is_started_more_slowly(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fail = tmp_path / "fail"
    with server_of(kind, "obey", processes=2, on_start=FailsIf(fail, "die")) as server:
        victim, survivor = clients.pids_of(server.addresses[0], 2)
        fail.touch()
        kill(victim)
        time.sleep(3)
        starts = len(fail.read_text())
        print(f"{kind}: {starts} starts in 3 s")
        assert 2 <= starts <= 12
        with clients.several(server.addresses[0], 10) as live:
            for client in live:
                client.sendall(b"pid\n")
            fail.unlink()
            pids = {int(clients.line(client)) for client in live}
        assert survivor in pids and victim not in pids, "who waited for it is served at last"
    assert any("ended before it accepted: worker " in record.getMessage() for record in records(caplog))


def test_it_can_be_stopped_while_nobody_can_begin(kind: str, tmp_path: Path) -> None:
    fail = tmp_path / "fail"
    with server_of(kind, "obey", on_start=FailsIf(fail, "die")) as server:
        fail.touch()
        kill(clients.once(server.addresses[0], "pid"))
        wait_until(lambda: len(fail.read_text()) >= 3, "it has tried")
    assert not worker_pids()


def test_a_handler_that_kills_its_worker(kind: str) -> None:
    """The others are lost with it; nobody else is."""
    with server_of(kind, "obey") as server:
        for _ in range(5):
            with connect(server.addresses[0]) as other, connect(server.addresses[0]) as client:
                assert tell(other, "pid") == tell(client, "pid")
                client.sendall(b"die 9\n")
                assert is_closed(client) and is_closed(other)
        assert clients.once(server.addresses[0], "pid") in worker_pids()


def test_a_worker_that_leaves_in_on_start_does_not_end_the_program(kind: str) -> None:
    server = server_of(kind, "echo", on_start=partial(sys.exit, 2))
    with pytest.raises(RuntimeError, match=r"before it accepted: SystemExit\(2\)"):
        server.start()
