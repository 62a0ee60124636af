"""Signals, restarts and the end: nobody who is open is cut off, nobody who comes is refused."""

import os
import signal
import subprocess
import threading
import time
import warnings
from pathlib import Path

import pytest

from procoro import Server
from tests.programs import Program
from tests.promises.looks import gone, wait_until
from tests.server import clients
from tests.server.clients import Hammer, ask, connect, is_closed, line, tell
from tests.server.conftest import Serving
from tests.server.handlers import AsyncNote, FailsIf, Note, handler
from tests.server.looks import records, server_of, sums, wait_for_open, worker_pids

either_signal = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def ends_well(program: Program) -> str:
    """What it said on standard error."""
    out, said = program.communicate(timeout=40)
    assert (program.returncode, out) == (0, "stopped True\n"), said
    return said


@either_signal
def test_a_signal_ends_it(kind: str, number: signal.Signals, serving: Serving) -> None:
    program, address = serving(kind, "echo", processes=2)
    with connect(address) as client:
        assert ask(client) == b"hello"
        program.send_signal(number)
        assert is_closed(client), "it meets the end"
        assert ends_well(program) == ""


def test_a_signal_to_the_whole_group_is_no_other(kind: str, serving: Serving) -> None:
    """As the terminal's Ctrl-C is one; and what stops a service signals all its processes."""
    program, address = serving(kind, "obey", {"start_new_session": True}, processes=2)
    with clients.several(address, 20) as live:
        pids = {tell(client, "pid") for client in live}
        assert len(pids) == 2
        for client in live:
            client.sendall(b"pid\n")
        os.killpg(program.pid, signal.SIGTERM)
        assert {int(clients.line(client)) for client in live} == pids
        assert all(is_closed(client) for client in live)
    assert "Traceback" not in ends_well(program)


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_all_that_has_arrived_is_answered(kind: str, count: int, serving: Serving, many_files: int) -> None:
    """Also where the workers had no chance to read it before the signal."""
    program, address = serving(kind, "obey", processes=2, files=many_files)
    with clients.several(address, count) as live:
        pids = {tell(client, "pid") for client in live}
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for client in live:
            client.sendall(b"pid\n")
        program.send_signal(signal.SIGTERM)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        answered = sum(int(clients.line(client) or 0) in pids for client in live)
        print(f"{kind}: {answered} of {count} answered")
        assert answered == count
        assert all(is_closed(client) for client in live)
    ends_well(program)


def test_who_comes_while_it_ends_is_refused(kind: str, serving: Serving, tmp_path: Path) -> None:
    """And can be served by the next one, on the same port and path."""
    path = str(tmp_path / "socket")
    program, address = serving(kind, "obey", path=path)
    with connect(address) as client:
        client.sendall(b"wait 3\n")
        assert clients.line(client) == b"waits\n"
        program.send_signal(signal.SIGTERM)
        wait_until(lambda: _is_refused(address) and _is_refused(path), "it accepts no more")
        with Server(handler(kind, "echo"), port=address[1], path=path, processes=1), connect(address) as other:
            assert ask(other) == b"hello"
            assert clients.line(client) == b'"ok"\n'
            ends_well(program)
            with connect(path) as other:
                assert ask(other) == b"hello"


def _is_refused(address: object) -> bool:
    try:
        connect(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except ConnectionResetError:  # it was closed as we came
        return False
    return False


@pytest.mark.parametrize("words, answer", [(b"wait 60\n", b"waits\n"), (b"stubborn\n", b"stays\n")])
def test_a_handler_that_does_not_end_is_cancelled(kind: str, words: bytes, answer: bytes, serving: Serving) -> None:
    """Or, if it will not be, ends with its worker."""
    program, address = serving(kind, "obey", drain_timeout=0.5)
    with connect(address) as client:
        client.sendall(words)
        assert clients.line(client) == answer
        program.send_signal(signal.SIGTERM)
        assert is_closed(client)
        ends_well(program)


def test_a_second_signal_is_now(kind: str, serving: Serving) -> None:
    program, address = serving(kind, "obey", drain_timeout=60.0)
    with connect(address) as client:
        client.sendall(b"stubborn\n")
        assert clients.line(client) == b"stays\n"
        program.send_signal(signal.SIGTERM)
        wait_until(lambda: _is_refused(address), "it accepts no more")
        began = time.monotonic()
        program.send_signal(signal.SIGINT)
        assert is_closed(client)
        ends_well(program)
        assert time.monotonic() - began < 20


def test_sighup_under_load_refuses_nobody(kind: str, serving: Serving) -> None:
    program, address = serving(kind, "obey", processes=2)
    with clients.several(address, 20) as old:
        first = {tell(client, "pid") for client in old}
        workers = worker_pids(program.pid)
        with connect(address) as busy, Hammer(address, 4, b"pid\n") as hammer:
            busy.sendall(b"wait 1\n")
            assert clients.line(busy) == b"waits\n"
            until = time.monotonic() + 3
            restarts = 0
            while not restarts or time.monotonic() < until:
                before = worker_pids(program.pid)
                program.send_signal(signal.SIGHUP)
                restarts += 1
                wait_until(lambda before=before: len(worker_pids(program.pid) - before) == 2, "both are new", 30)  # type: ignore[misc]
            assert clients.line(busy) == b'"ok"\n', "it was busy when its worker was told to end"
            assert is_closed(busy)
        print(f"{kind}: {hammer.count} short connections, {restarts} restarts, {len(hammer.errors)} refused or reset")
        assert not hammer.errors and hammer.count > 50
        assert first <= workers
        assert all(is_closed(client) for client in old)
    wait_until(
        lambda: len(worker_pids(program.pid)) == 2 and not worker_pids(program.pid) & workers, "old ones end", 30
    )
    program.send_signal(signal.SIGTERM)
    assert ends_well(program) == ""


def test_restart_and_stop_from_other_threads(kind: str) -> None:
    """Several at a time."""
    with server_of(kind, "obey", processes=2) as server:
        before = worker_pids()
        for call in (server.restart, server.restart, server.stats):
            threading.Thread(target=call).start()
        wait_until(lambda: len(worker_pids() - before) == 2 and not worker_pids() & before, "all are new", 30)
        assert clients.once(server.addresses[0], "pid") in worker_pids()
        stopping = [threading.Thread(target=server.stop) for _ in range(3)]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(20)
        assert not worker_pids() and server.stats() == []
    server.restart()  # it does nothing any more


def test_a_restart_while_workers_begin_replaces_them_too(kind: str, tmp_path: Path) -> None:
    """They may have come too early for what is new."""
    notes = tmp_path / "notes"
    server = server_of(kind, "obey", processes=2, on_start=Note(notes, "start"))
    server.restart()
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: notes.exists() and len(said(notes)) == 4, "each has been started twice", 20)
    finally:
        server.stop()
        thread.join()


def test_stop_now(kind: str) -> None:
    server = server_of(kind, "obey", drain_timeout=60).start()
    with connect(server.addresses[0]) as client:
        client.sendall(b"wait 60\n")
        assert clients.line(client) == b"waits\n"
        began = time.monotonic()
        server.stop(now=True)
        assert is_closed(client) and time.monotonic() - began < 20


def test_in_another_thread_no_handler_is_installed() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    server = server_of("async", "echo")
    thread = threading.Thread(target=server.run)
    thread.start()
    with connect(server.addresses[0]) as client:
        assert ask(client) == b"hello"
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before
    server.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_hooks_are_called_once_in_each_worker(kind: str, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    make = AsyncNote if kind == "async" else Note
    with server_of(kind, "obey", processes=2, on_start=make(notes, "start"), on_stop=Note(notes, "stop")) as server:
        first = worker_pids()
        assert said(notes) == {(word, pid) for word in ("start",) for pid in first}
        server.restart()
        wait_until(lambda: len(worker_pids() - first) == 2 and not worker_pids() & first, "all are new", 30)
        second = worker_pids()
    assert said(notes) == {(word, pid) for word in ("start", "stop") for pid in first | second}
    assert len(notes.read_text().splitlines()) == 8


def said(notes: Path) -> set[tuple[str, int]]:
    """Words and pids."""
    return {(word, int(pid)) for word, pid in (line.split() for line in notes.read_text().splitlines())}


def test_on_start_that_raises_is_raised_by_start(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    (tmp_path / "fail").touch()
    for begin in (Server.start, Server.run):
        server = server_of(kind, "echo", processes=2, path=str(path), on_start=FailsIf(tmp_path / "fail"))
        with pytest.raises(LookupError, match="no way to begin"):
            begin(server)
        assert not path.exists() and not worker_pids()


def test_on_start_that_dies_is_told_by_start(kind: str, tmp_path: Path) -> None:
    (tmp_path / "fail").touch()
    with pytest.raises(Exception, match="exit code 7"):
        server_of(kind, "echo", on_start=FailsIf(tmp_path / "fail", "die")).start()


@pytest.mark.parametrize("how", ["raise", "die"])
def test_on_start_that_fails_at_a_restart_leaves_the_old_ones(
    kind: str, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fail = tmp_path / "fail"
    with server_of(kind, "obey", processes=2, on_start=FailsIf(fail, how)) as server:
        before = worker_pids()
        with connect(server.addresses[0]) as client:
            tell(client, "pid")
            fail.touch()
            server.restart()
            wait_until(lambda: len(records(caplog)) >= 2, "it is told")
            words = [record.getMessage() for record in records(caplog)]
            assert "before it accepted" in words[0] and "the old workers go on" in words[1]
            assert tell(client, "pid") in before
        assert clients.pids_of(server.addresses[0], 2) == before
        fail.unlink()
        server.restart()
        wait_until(lambda: not worker_pids() & before and len(worker_pids()) == 2, "the next restart does it", 30)


def test_on_stop_that_raises_is_logged(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "fail").touch()
    with server_of(kind, "echo", on_stop=FailsIf(tmp_path / "fail")):
        pass
    (record,) = records(caplog)
    assert "did not end well: LookupError: no way to begin" in record.getMessage()


def test_kill_of_the_server_ends_its_workers(kind: str, serving: Serving) -> None:
    program, address = serving(kind, "obey", processes=2)
    with connect(address) as client:
        client.sendall(b"stubborn\n")
        assert clients.line(client) == b"stays\n"
        workers = worker_pids(program.pid)
        program.kill()
        program.wait()
        wait_until(lambda: all(gone(pid) for pid in workers), "no worker is left", 5)
        assert is_closed(client)


def test_a_program_that_forgets_its_server_ends(tmp_path: Path) -> None:
    code = """
from procoro import Server

async def echo(conn):
    async for chunk in conn:
        await conn.sendall(chunk)
server = Server(echo, port=0, processes=2).start()
import socket
client = socket.create_connection(server.addresses[0])
client.sendall(b"x")
print(client.recv(1))
"""
    file = tmp_path / "forgets.py"
    file.write_text(code)
    import sys

    run = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=40, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "b'x'\n", "")


def test_a_child_that_a_handler_forks_is_no_second_worker(kind: str) -> None:
    with server_of(kind, "obey") as server:
        pid = clients.once(server.addresses[0], "pid")
        for code in (0, 7):
            assert clients.once(server.addresses[0], f"fork_and_leave {code}") == code
        assert {clients.once(server.addresses[0], "pid") for _ in range(30)} == {pid}
        wait_for_open(server, 0)
    assert sums(server)["errors"] == 0


def test_a_process_that_a_handler_has_left_holds_nobody_up(kind: str) -> None:
    with server_of(kind, "obey") as server:
        child = clients.once(server.addresses[0], "fork 60")
        wait_for_open(server, 0)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 20
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    assert sums(server)["open"] == 0


def test_a_sighup_to_the_whole_group_cuts_nobody_off(kind: str, serving: Serving) -> None:
    """As a terminal that is closed sends it: it replaces the workers, and those that are there end well."""
    program, address = serving(kind, "obey", {"start_new_session": True}, processes=1)
    with connect(address) as client:
        pid = tell(client, "pid")
        client.sendall(b"pid\n")
        os.killpg(program.pid, signal.SIGHUP)
        assert int(line(client)) == pid
    program.send_signal(signal.SIGTERM)
    assert "Traceback" not in ends_well(program)


def test_a_child_that_was_forked_stops_nothing() -> None:
    """Nor does it wait for what will never end there."""
    with Server(handler("async", "echo"), port=0, processes=1) as server:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the child needs none of our threads
            child = os.fork()
        if not child:
            try:
                server.stop()
                os._exit(7)
            finally:
                os._exit(8)
        ended: list[int] = []
        try:
            wait_until(lambda: ended.extend(os.waitpid(child, os.WNOHANG)) or ended[-2] == child, "it has ended")
        except AssertionError:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        assert os.waitstatus_to_exitcode(ended[-1]) == 7
        with connect(server.addresses[0]) as client:
            assert ask(client) == b"hello"
