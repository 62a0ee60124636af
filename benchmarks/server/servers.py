"""Echo servers, each as its users write it: `python -m benchmarks.server.servers NAME PROCESSES`.

It prints its port when it accepts, and is ended by a signal.
"""

import asyncio
import os
import socket
import sys
from typing import Any

BACKLOG = 4096
CHUNK = 65536


async def echo_async(conn: Any) -> None:
    while data := await conn.recv(CHUNK):
        await conn.sendall(data)


def echo_plain(conn: Any) -> None:
    while data := conn.recv(CHUNK):
        conn.sendall(data)


def procoro(handler: Any, processes: int) -> None:
    from procoro import Server

    with Server(handler, port=0, processes=processes, backlog=BACKLOG) as server:
        print(server.addresses[0][1], flush=True)
        sys.stdin.read()


def procoro_async(processes: int) -> None:
    procoro(echo_async, processes)


def procoro_plain(processes: int) -> None:
    procoro(echo_plain, processes)


def listener() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setblocking(False)
    return made


def gevent_server(processes: int) -> None:
    """As the tutorial has it: the listener is shared by processes that are forked after it was made."""
    from gevent.server import StreamServer

    own = listener()
    if not any(os.fork() == 0 for _ in range(processes - 1)):
        print(own.getsockname()[1], flush=True)
    StreamServer(own, lambda conn, _: echo_plain(conn)).serve_forever()


async def _streams() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()

    own = listener()
    server = await asyncio.start_server(echo, sock=own, backlog=BACKLOG)
    print(own.getsockname()[1], flush=True)
    await server.serve_forever()


def asyncio_streams(processes: int) -> None:
    asyncio.run(_streams())


def uvloop_streams(processes: int) -> None:
    import uvloop

    uvloop.run(_streams())


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def _protocol() -> None:
    own = listener()
    server = await asyncio.get_running_loop().create_server(Echo, sock=own, backlog=BACKLOG)
    print(own.getsockname()[1], flush=True)
    await server.serve_forever()


def uvloop_protocol(processes: int) -> None:
    import uvloop

    uvloop.run(_protocol())


if __name__ == "__main__":
    globals()[sys.argv[1]](int(sys.argv[2]))
