"""What is wrong with an argument is said in words, before anything begins."""

from typing import Any

import pytest

from procoro import serve
from procoro.server.server import Server
from tests.server.clients import ask, connect
from tests.server.handlers import echo_async, echo_plain

HUGE = 10**30

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({}, ValueError, "a server needs a port or a path to listen on"),
    ({"port": -1}, ValueError, "port must be >= 0"),
    ({"port": 65536}, ValueError, "port must be 0 to 65535, got 65536"),
    ({"port": "80"}, TypeError, "port must be a whole number, got '80'"),
    ({"port": True}, TypeError, "port must be a whole number"),
    ({"port": 0, "host": 5}, TypeError, "host must be a name, a sequence of names or None, got 5"),
    ({"port": 0, "host": []}, TypeError, "host must be a name"),
    ({"port": 0, "host": b"127.0.0.1"}, TypeError, "host must be a name"),
    ({"port": 0, "host": ["127.0.0.1", None]}, TypeError, "host must be a name"),
    ({"port": 0, "host": "no.such.host.invalid"}, OSError, "cannot listen on 'no.such.host.invalid': "),
    ({"port": 0, "host": "x" * 300}, OSError, "cannot listen on 'xxx"),
    ({"port": 0, "host": "203.0.113.1"}, OSError, "cannot listen on 203.0.113.1:0: Cannot assign requested address"),
    ({"path": 5}, TypeError, "path must be the name of a Unix socket, got 5"),
    ({"path": ""}, TypeError, "path must be the name of a Unix socket, got ''"),
    ({"path": "/tmp/" + "x" * 200}, OSError, "cannot listen on /tmp/x.*: AF_UNIX path too long"),
    ({"path": "/no/such/folder/socket"}, OSError, "cannot listen on /no/such/folder/socket: No such file"),
    ({"port": 0, "processes": 0}, ValueError, "processes must be at least 1"),
    ({"port": 0, "processes": 1.5}, TypeError, "processes must be a whole number"),
    ({"port": 0, "backlog": 0}, ValueError, "backlog must be >= 1"),
    ({"port": 0, "backlog": None}, TypeError, "backlog must be a whole number, got None"),
    ({"port": 0, "max_connections": 0}, ValueError, "max_connections must be >= 1"),
    ({"port": 0, "max_connections": "5"}, TypeError, "max_connections must be a whole number"),
    ({"port": 0, "max_per_address": 0}, ValueError, "max_per_address must be >= 1"),
    ({"port": 0, "max_line": None}, TypeError, "max_line must be a whole number"),
    ({"port": 0, "max_message": 0}, ValueError, "max_message must be >= 1"),
    ({"port": 0, "idle_timeout": 0}, ValueError, "idle_timeout must be > 0 seconds"),
    ({"port": 0, "idle_timeout": float("nan")}, ValueError, "idle_timeout must be > 0 seconds"),
    ({"port": 0, "handler_timeout": "1"}, TypeError, "handler_timeout must be a number of seconds"),
    ({"port": 0, "drain_timeout": None}, TypeError, "drain_timeout must be a number of seconds, got None"),
    ({"port": 0, "drain_timeout": -1}, ValueError, "drain_timeout must be > 0 seconds"),
    ({"port": 0, "on_start": 5}, TypeError, "on_start must be callable, got 5"),
    ({"port": 0, "on_stop": "x"}, TypeError, "on_stop must be callable"),
    ({"port": 0, "model": "threads"}, ValueError, "model must be 'asyncio' or 'greenlets', got 'threads'"),
    ({"port": 0, "models": "threads"}, TypeError, "unexpected keyword argument 'models'"),
]


@pytest.mark.parametrize("settings, error, words", WRONG, ids=lambda one: str(one)[:40])
def test_wrong_arguments(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Server(echo_async, **settings)
    with pytest.raises(error, match=words):
        serve(echo_plain, **settings)


@pytest.mark.parametrize("wrong", [None, 5, "module:name"])
def test_a_handler_must_be_a_function(wrong: Any) -> None:
    with pytest.raises(TypeError, match="handler must be a function of one connection, got"):
        Server(wrong, port=0)


def test_an_async_def_does_not_run_in_greenlets() -> None:
    with pytest.raises(ValueError, match="an `async def` handler runs by model='asyncio'"):
        Server(echo_async, port=0, model="greenlets")


def test_nor_does_an_async_def_hook() -> None:
    async def begin() -> None:
        """It would never be awaited."""

    for name in ("on_start", "on_stop"):
        with pytest.raises(TypeError, match=f"{name} is an `async def` function, and runs only beside"):
            Server(echo_plain, port=0, **{name: begin})


def test_a_function_that_gives_a_coroutine_is_told_by_the_model() -> None:
    def echo(conn: Any) -> Any:
        return echo_async(conn)

    with Server(echo, port=0, processes=1, model="asyncio") as server, connect(server.addresses[0]) as client:
        assert ask(client) == b"hello"


def test_as_long_as_you_like() -> None:
    forever = {"idle_timeout": HUGE, "handler_timeout": float("inf"), "drain_timeout": float("inf")}
    with Server(
        echo_async, port=0, processes=1, backlog=HUGE, max_connections=HUGE, max_line=HUGE, **forever
    ) as server:
        assert server.addresses


def test_a_handler_that_cannot_travel() -> None:
    import threading

    lock = threading.Lock()

    def handler(conn: Any) -> None:
        lock.acquire()

    with pytest.raises(Exception, match="lock"), Server(handler, port=0, processes=2):
        pass
