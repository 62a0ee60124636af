"""A worker dies, all are replaced, the server is stopped: who is lost, who is refused, who is answered."""

import os
import signal
import socket
import threading

from tests.promises.looks import wait_until
from tests.server.clients import connect
from tests.server.conftest import Serving
from tests.server.looks import server_of, wait_for_open, worker_pids


def ask(address: object) -> bytes:
    """A short connection."""
    with connect(address) as client:
        client.sendall(b"hello")
        return client.recv(100)


def test_a_death_takes_only_its_own_connections(kind: str) -> None:
    with server_of(kind, "echo", processes=2) as server:
        live = [connect(server.addresses[0]) for _ in range(64)]
        wait_for_open(server, 64)
        shares = [int(one["open"]) for one in server.stats()]
        assert min(shares) >= 8, "the kernel spreads them"
        victim = min(worker_pids())
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(worker_pids() - {victim}) == 2, "it is replaced")
        assert [ask(server.addresses[0]) for _ in range(100)] == [b"hello"] * 100
        answered = 0
        for client in live:
            try:
                client.sendall(b"still there?")
                answered += client.recv(100) == b"still there?"
            except ConnectionError:
                pass
            client.close()
        assert answered in shares


def test_a_restart_refuses_nobody(kind: str) -> None:
    with server_of(kind, "echo", processes=2) as server:
        before = worker_pids()
        with connect(server.addresses[0]) as old:
            old.sendall(b"a")
            assert old.recv(1) == b"a"
            wrong: list[object] = []
            stop = threading.Event()

            def hammer() -> None:
                while not stop.is_set():
                    try:
                        if (answer := ask(server.addresses[0])) != b"hello":
                            wrong.append(answer)
                    except OSError as error:
                        wrong.append(error)

            threads = [threading.Thread(target=hammer) for _ in range(3)]
            for thread in threads:
                thread.start()
            server.restart()
            try:
                wait_until(lambda: len(worker_pids() - before) == 2, "both are replaced", 20)
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            assert not wrong
        wait_until(lambda: not worker_pids() & before, "the old ones have ended", 20)


def test_what_has_arrived_is_answered_at_the_end(serving: Serving, kind: str) -> None:
    program, address = serving(kind, "echo", processes=2)
    clients = [connect(address) for _ in range(500)]
    for client in clients:
        client.sendall(b"first")
        assert client.recv(5) == b"first"
    for client in clients:
        client.sendall(b"last")
    program.send_signal(signal.SIGTERM)
    assert [client.recv(10) for client in clients] == [b"last"] * 500
    assert [client.recv(10) for client in clients] == [b""] * 500
    program.communicate(timeout=20)
    assert program.returncode == 0
    for client in clients:
        client.close()


def test_a_second_signal_ends_it_at_once(serving: Serving, kind: str) -> None:
    program, address = serving(kind, "hang", drain_timeout=60)
    with connect(address) as client:
        client.sendall(b"x")
        program.send_signal(signal.SIGINT)
        wait_until(lambda: _is_refused(address), "it accepts no more")
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=20)


def _is_refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 5).close()
    except ConnectionRefusedError:
        return True
    return False
