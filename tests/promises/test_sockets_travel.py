"""A socket of the user's is an argument as any other: the other process gets the same connection."""

import multiprocessing
import os
import pickle
import socket
from collections.abc import Iterator

import pytest

from procoro import Lock, Pipe, Pool, Process, Queue
from procoro.errors import NotPicklable
from tests.promises.looks import PATIENCE, wait_until

SILENCE = 5.0  # seconds, of a socket


def shout(connection: socket.socket) -> None:
    """Say all that comes back in capitals, until the other side is done."""
    with connection:
        while data := connection.recv(100):
            connection.sendall(data.upper())


def properties(*connections: socket.socket) -> list[tuple[object, ...]]:
    return [(type(one), one.family, one.type, one.gettimeout(), one.getpeername()) for one in connections]


def close(connection: socket.socket) -> None:
    connection.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def client(listener: socket.socket) -> Iterator[socket.socket]:
    with socket.create_connection(listener.getsockname(), PATIENCE) as client:
        yield client


def says(client: socket.socket, data: bytes) -> bytes:
    """The answer, and then the end: whoever answered, and nobody else, has the other side."""
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    with client.makefile("rb") as answer:
        return answer.read()


def test_a_process_a_connection(listener: socket.socket, client: socket.socket) -> None:
    connection, _ = listener.accept()
    process = Process(target=shout, args=(connection,))
    process.start()
    connection.close()
    assert says(client, b"hello") == b"HELLO"
    process.join()


def test_a_call_a_connection_which_the_caller_closes_at_once(listener: socket.socket, client: socket.socket) -> None:
    with Pool(1) as pool:
        connection, _ = listener.accept()
        result = pool.submit(shout, connection)
        connection.close()
        del connection
        assert says(client, b"hello") == b"HELLO"
        result.get(PATIENCE)


def test_through_a_pipe_and_back(listener: socket.socket, client: socket.socket) -> None:
    connection, _ = listener.accept()
    here, there = Pipe()
    with here, there:
        here.send({"connections": [connection, connection]})
        one, other = there.recv()["connections"]
        assert one is other  # as in the value
        connection.close()
        there.send(one)
        one.close()
        with here.recv() as back:
            process = Process(target=shout, args=(back,))
            process.start()
    assert says(client, b"hello") == b"HELLO"
    process.join()


def test_what_a_socket_is_arrives(listener: socket.socket, client: socket.socket) -> None:
    connection, _ = listener.accept()
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.settimeout(SILENCE)
    with connection, left, right, Pool(1) as pool:
        ours = properties(connection, left)
        assert pool.apply(properties, (connection, left)) == ours
        assert pool.map(properties, [connection, left]) == [[one] for one in ours]
        assert connection.gettimeout() is None
        assert left.gettimeout() == SILENCE


def test_a_socket_that_was_sent_leaves_nothing() -> None:
    with Pool(1) as pool:
        pool.apply(abs, (-1,))
        before = descriptors()
        for _ in range(50):
            one, other = socket.socketpair()
            with one, other:
                pool.apply(close, (one,))
        wait_until(lambda: descriptors() <= before, "the copies are closed")
        assert pool.apply(descriptors) < 50


def test_where_none_travels() -> None:
    queue: Queue[socket.socket] = Queue()
    with socket.socket() as one, Pool(1) as pool:
        with pytest.raises(NotPicklable, match="item: a Socket travels as an argument of a call"):
            queue.put(one)
        with pytest.raises(NotPicklable, match=r"result: a .*Lock cannot .* \(a Lock travels as an argument"):
            pool.apply(Lock)
        with pytest.raises(TypeError):  # as it was
            pickle.dumps(one)


class Own(socket.socket):
    """Who makes a class of it knows why."""


def test_what_would_arrive_and_be_of_no_use_is_refused() -> None:
    here, there = Pipe()
    one, other = multiprocessing.Pipe()
    with here, there, one, other, socket.socket() as plain, Own() as own:
        with pytest.raises(NotPicklable, match=r"message\[1\]: an end of a multiprocessing.Pipe lives in one process"):
            here.send([plain, one])
        with pytest.raises(
            NotPicklable, match=r"message: a .*Own is a socket of a class of its own, .* pass a plain one"
        ):
            here.send(own)


def test_a_closed_socket_is_refused_in_words() -> None:
    closed = socket.socket()
    closed.close()
    with Pool(1) as pool, pytest.raises(NotPicklable, match=r"args\[0\]: a socket.socket cannot .* \(it is closed\)"):
        pool.submit(shout, closed)
    here, there = Pipe()
    with here, there, pytest.raises(NotPicklable, match=r"message\[1\]: .* \(it is closed\)"):
        here.send([1, closed])
    with pytest.raises(NotPicklable, match=r"args\[0\]: .* \(it is closed\)"):
        Process(target=shout, args=(closed,)).start()
