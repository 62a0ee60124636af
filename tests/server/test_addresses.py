"""Where a server listens."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from procoro.server.server import Server
from tests.promises.looks import kill, wait_until
from tests.server import clients
from tests.server.clients import ask, connect
from tests.server.conftest import Serving
from tests.server.handlers import handler
from tests.server.looks import server_of, worker_pids


@contextmanager
def taken(share: bool = False) -> Iterator[int]:
    """A port that another program listens on."""
    code = f"""
import socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if {share}: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind(("127.0.0.1", 0)); s.listen(); print(s.getsockname()[1], flush=True); input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        yield int(other.stdout.readline())
        other.kill()


def free_port() -> int:
    """One that nobody has, for now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_ipv6(kind: str) -> None:
    with server_of(kind, "echo", host="::1") as server:
        assert server.addresses[0][0] == "::1"
        with connect(server.addresses[0]) as client:
            assert ask(client) == b"hello"


def test_several_hosts_and_a_path_on_one_port(kind: str, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with server_of(kind, "echo", host=["127.0.0.1", "127.0.0.2", "::1"], path=path, processes=2) as server:
        *tcp, last = server.addresses
        assert last == path and [one[0] for one in tcp] == ["127.0.0.1", "127.0.0.2", "::1"]
        assert clients.all_equal([one[1] for one in tcp])
        for address in server.addresses:
            with connect(address) as client:
                assert ask(client) == b"hello"
    assert not Path(path).exists()


def test_all_addresses_of_the_machine() -> None:
    with server_of("async", "echo", host=None) as server:
        port = server.addresses[0][1]
        for host in ("127.0.0.1", "127.0.0.3", "::1"):
            with connect((host, port)) as client:
                assert ask(client) == b"hello"


def test_a_path_alone(kind: str, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with server_of(kind, "obey", port=None, path=path, processes=2) as server:
        assert server.addresses == [path]
        assert len(clients.pids_of(path, 2)) == 2, "both workers accept from it"
        assert clients.once(path, "peer") == ""


def _is_dead(path: str) -> bool:
    try:
        connect(path).close()
    except ConnectionRefusedError:
        return True
    return False


def test_what_a_dead_server_left_at_a_path_is_removed(tmp_path: Path, serving: Serving) -> None:
    path = str(tmp_path / "socket")
    program, _ = serving("async", "echo", port=None, path=path)
    program.kill()
    program.wait()
    wait_until(lambda: _is_dead(path), "its worker is gone, too")
    assert Path(path).is_socket()
    with server_of("async", "echo", port=None, path=path), connect(path) as client:
        assert ask(client) == b"hello"
    assert not Path(path).exists()


def test_a_server_that_nobody_stops_leaves_no_path(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    program = f"""
import os, sys
from procoro import Server
from tests.server.handlers import handler
server = Server(handler("async", "echo"), port=None, path={str(path)!r}, processes=1).start()
if os.fork() == 0:
    sys.exit()  # it is not the child's
os.wait()
print(os.path.exists({str(path)!r}))
"""
    assert (
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout == "True\n"
    )
    assert not path.exists()


def test_a_path_where_a_server_listens_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with server_of("async", "echo", port=None, path=path):
        with pytest.raises(OSError, match=f"cannot listen on {path}: Address already in use: another program"):
            server_of("async", "echo", port=None, path=path)
        with connect(path) as client:
            assert ask(client) == b"hello"


def test_a_path_that_is_no_socket_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("precious")
    with pytest.raises(OSError, match=r"cannot listen on .*data: Address already in use"):
        server_of("async", "echo", port=None, path=str(path))
    assert path.read_text() == "precious"


def test_a_path_that_another_server_has_taken_over_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with server_of("async", "echo", port=None, path=str(path)):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            inode = path.stat().st_ino
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("share", [False, True])
def test_a_port_that_another_program_has_is_refused(share: bool) -> None:
    words = "Address already in use: another"
    with taken(share) as port, pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: {words}"):
        server_of("async", "echo", port=port)


def test_a_second_server_is_refused_and_the_first_goes_on() -> None:
    with server_of("async", "echo", processes=2) as server:
        with pytest.raises(OSError, match="another program listens there"):
            server_of("plain", "echo", port=server.addresses[0][1])
        for _ in range(20):
            with connect(server.addresses[0]) as client:
                assert ask(client) == b"hello"


def test_the_port_is_free_again_at_once() -> None:
    port = free_port()
    for _ in range(3):
        with server_of("async", "echo", port=port), connect(("127.0.0.1", port)) as client:
            assert ask(client) == b"hello"


def test_a_server_that_is_not_started_gives_its_port_back(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = server_of("async", "echo", path=str(path))
    assert path.exists()
    server.stop()
    assert not path.exists()
    with pytest.raises(ConnectionRefusedError):
        connect(server.addresses[0])
    with pytest.raises(RuntimeError, match="started once"):
        server.start()
    server.stop()


def test_a_server_is_started_once() -> None:
    with server_of("async", "echo") as server:
        for again in (server.start, server.run):
            with pytest.raises(RuntimeError, match="a server is started once"):
                again()
        with connect(server.addresses[0]) as client:
            assert ask(client) == b"hello"


def test_who_waits_for_a_dead_worker_is_served_by_the_next(kind: str) -> None:
    """Its listener is kept."""
    with server_of(kind, "obey") as server:
        address = server.addresses[0]
        pid = clients.once(address, "pid")
        psutil.Process(pid).suspend()
        with clients.several(address, 10) as waiting:
            for client in waiting:
                client.sendall(b"pid\n")
            kill(pid)
            assert {clients.line(client) for client in waiting} == {b"%d\n" % clients.once(address, "pid")}
        wait_until(lambda: len(worker_pids()) == 1, "one worker is there")


def test_long_connections_are_spread_over_workers(kind: str) -> None:
    with server_of(kind, "obey", processes=2) as server, clients.several(server.addresses[0], 64) as all_of_them:
        for client in all_of_them:
            assert clients.tell(client, "pid")
        assert min(one["open"] for one in server.stats()) >= 14
        print(kind, [one["open"] for one in server.stats()])


def test_tcp_sends_at_once(kind: str) -> None:
    with Server(handler(kind, "nodelay"), port=0, processes=1) as server, connect(server.addresses[0]) as client:
        assert client.recv(10) == b"1"
