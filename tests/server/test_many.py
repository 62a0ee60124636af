"""Many connections at once, and many servers one after another."""

import os
import socket
import threading
from contextlib import ExitStack

import psutil
import pytest

from tests.promises.looks import wait_until
from tests.server import clients
from tests.server.clients import ask, connect
from tests.server.conftest import Serving
from tests.server.looks import own_memory, server_of, worker_pids


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(180)])])
def test_all_at_once_echo(kind: str, count: int, serving: Serving, many_files: int) -> None:
    count = min(count, many_files - 500)
    program, address = serving(kind, "echo", processes=2, files=many_files, backlog=4096)
    workers = worker_pids(program.pid)
    with connect(address) as one:
        assert ask(one) == b"hello"
    before = sum(map(own_memory, workers))
    with ExitStack() as stack:
        live = [stack.enter_context(connect(address)) for _ in range(count)]
        for client in live:
            client.sendall(b"hello")
        assert all(clients.receive(client, 5) == b"hello" for client in live)
        grown = sum(map(own_memory, workers)) - before
        print(f"{kind}: {count} open, {grown / 1024 / count:.1f} KiB a connection")
        assert grown / count < 40 * 1024
        assert all(ask(client) == b"hello" for client in live)
    program.terminate()
    _, said = program.communicate(timeout=60)
    assert (program.returncode, said) == (0, "")


def test_start_and_stop_leak_nothing(kind: str) -> None:
    cycles = 16
    own = psutil.Process()
    seen = []
    for _ in range(cycles):
        with server_of(kind, "echo", processes=2) as server, connect(server.addresses[0]) as client:
            assert ask(client) == b"hello"
        seen.append(own.memory_info().rss)
        if len(seen) == 1:
            files = len(os.listdir("/proc/self/fd"))
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= files, "all descriptors are back")
    assert sum("procoro-server" in thread.name for thread in threading.enumerate()) == 0
    grown = (seen[-1] - seen[cycles // 2]) / (cycles - cycles // 2)
    print(f"{kind}: {grown / 1024:.0f} KiB a cycle")
    assert grown < 300 * 1024


def test_a_worker_leaks_nothing(kind: str) -> None:
    """Whatever becomes of its connections."""
    with server_of(kind, "obey") as server:
        address = server.addresses[0]
        before = clients.once(address, "files 0")
        for number in range(300):
            with connect(address) as client:
                client.sendall((b"pid\n", b"raise x\n", b"wait 0\n")[number % 3])
                if number % 2:
                    clients.line(client)
                elif number % 5 == 0:
                    client.shutdown(socket.SHUT_WR)
                else:
                    clients.reset(client)
        wait_until(lambda: clients.once(address, "files 0") <= before, "all descriptors are back")
        assert len(worker_pids()) == 1
