"""`procoro serve` as its users run it: a process of its own, which signals end."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tests.cli.conftest import PATIENCE
from tests.programs import Program, programs
from tests.promises.looks import wait_until
from tests.server.clients import ask, connect
from tests.server.looks import worker_pids

Serve = Callable[..., Program]
HANDLERS = "tests.server.handlers"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start `procoro serve ARGUMENTS...`."""
    with programs(tmp_path) as launch:

        def start(*arguments: object) -> Program:
            return launch([sys.executable, "-m", "procoro", "serve", *map(str, arguments)], dict(os.environ))

        yield start


def address_in(program: Program) -> tuple[str, int]:
    """Where it says that it listens."""
    assert program.stderr is not None
    host, _, port = program.stderr.readline().rpartition(" on ")[2].strip().rpartition(":")
    return host.strip("[]"), int(port)


def refused(program: Program, status: int = 2) -> str:
    """What a command that cannot be carried out has said."""
    out, said = program.communicate(timeout=PATIENCE)
    assert (program.returncode, out) == (status, ""), said
    return said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["echo_async", "echo_plain"])
def test_it_serves_until_a_signal(serve: Serve, name: str, number: signal.Signals) -> None:
    program = serve(f"{HANDLERS}:{name}", "--port", 0, "--processes", 2, "--access-log")
    with connect(address_in(program)) as client:
        assert ask(client) == b"hello"
        peer = client.getsockname()
        before = worker_pids(program.pid)
        assert len(before) == 2
        program.send_signal(signal.SIGHUP)
        wait_until(lambda: not worker_pids(program.pid) & before and worker_pids(program.pid), "they are new", 30)
        assert client.recv(1) == b"", "its worker has ended"
    program.send_signal(number)
    out, said = program.communicate(timeout=PATIENCE)
    assert (program.returncode, out) == (0, "")
    assert f"procoro.server.access: {peer} ok" in said and "Traceback" not in said


def test_the_tutorials_server_from_a_file(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "echo.py"
    file.write_text(
        "def handle_request(conn):\n"
        "    while True:\n"
        "        data = conn.recv(1024)\n"
        "        if not data:\n"
        "            break\n"
        "        conn.sendall(data)\n"
    )
    program = serve(f"{file}:handle_request", "--port", 0, "--path", tmp_path / "socket", "--backlog", 500)
    for address in (address_in(program), str(tmp_path / "socket")):
        with connect(address) as client:
            assert ask(client) == b"hello"
    program.terminate()
    assert program.wait(PATIENCE) == 0 and not (tmp_path / "socket").exists()


def test_several_hosts(serve: Serve) -> None:
    program = serve(f"{HANDLERS}:echo_async", "--port", 0, "--host", "127.0.0.1", "--host", "127.0.0.2")
    for address in (address_in(program), address_in(program)):
        with connect(address) as client:
            assert ask(client) == b"hello"
    program.terminate()
    assert program.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["echo_async"], "where to listen? Give --port or --path"),
        (["echo_async", "--port", 65536], "65536 is not in the range 0<=x<=65535"),
        (["echo_async", "--port", "x"], "'x' is not a valid integer"),
        (["no_such_handler", "--port", 0], "no_such_handler"),
        (["KINDS", "--port", 0], "KINDS"),
        (["echo_async", "--port", 0, "--host", "no.such.host.invalid"], "cannot listen on 'no.such.host.invalid': "),
        (["echo_async", "--port", 0, "--idle-timeout", 0], "idle_timeout must be > 0 seconds"),
        (["echo_async", "--port", 0, "--certfile", "none.pem"], "certfile cannot be read: No such file or directory"),
        (["echo_async", "--port", 0, "--keyfile", "none.pem"], "keyfile is of no use without a certfile"),
        (["echo_async", "--port", 0, "--certfile", os.devnull], "there is no key in it; keyfile names the file"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_words(serve: Serve, arguments: list[object], words: str) -> None:
    said = refused(serve(f"{HANDLERS}:{arguments[0]}", *arguments[1:]))
    assert words in said and "Traceback" not in said


def test_a_port_that_is_taken(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused(serve(f"{HANDLERS}:echo_async", "--port", port))
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use: another program listens there" in said


def test_two_servers_on_one_port(serve: Serve) -> None:
    first = serve(f"{HANDLERS}:echo_async", "--port", 0)
    _, port = address_in(first)
    assert "another program listens there" in refused(serve(f"{HANDLERS}:echo_async", "--port", port))
    first.terminate()
    assert first.wait(PATIENCE) == 0


def test_workers_that_cannot_begin(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    source = (
        "import sys\nif 'click' not in sys.modules:\n    raise RuntimeError('not in a worker')\ndef handle(conn): ...\n"
    )
    file.write_text(source)
    program = serve(f"{file}:handle", "--port", 0)
    out, said = program.communicate(timeout=PATIENCE)
    assert (program.returncode, out) == (1, "")
    assert "the workers could not begin" in said


def test_a_handler_that_does_not_show_that_it_is_async(serve: Serve, tmp_path: Path) -> None:
    """A decorator may hide it: then `--model` says so."""
    code = """
        async def echo(conn):
            async for chunk in conn:
                await conn.sendall(chunk)

        def handle(conn):
            return echo(conn)
        """
    (tmp_path / "wrapped.py").write_text(dedent(code))
    program = serve(f"{tmp_path}/wrapped.py:handle", "--port", 0, "--model", "asyncio")
    with connect(address_in(program)) as client:
        assert ask(client) == b"hello"
    program.send_signal(signal.SIGTERM)
    assert program.wait(PATIENCE) == 0


def test_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "procoro", "serve", "--help"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0
    for option in ("--port", "--path", "--processes", "--model", "--certfile", "--drain-timeout", "--access-log"):
        assert option in done.stdout
