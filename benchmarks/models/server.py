"""A server that answers every request after 20 ms, at little cost: a protocol, no framework.

    python -m benchmarks.models.server

It prints its port, and ends when its standard input does.
"""

import asyncio
import sys
from typing import Any

from benchmarks.models.calls import BODY, WAIT

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n%s"
CLOSING = ANSWER % (len(BODY), b"close", BODY)
KEEPING = ANSWER % (len(BODY), b"keep-alive", BODY)


class Answers(asyncio.Protocol):
    """Requests without a body."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        *requests, self.received = (self.received + data).split(b"\r\n\r\n")
        for request in requests:
            asyncio.get_running_loop().call_later(WAIT, self.answer, b"connection: close" in request.lower())

    def answer(self, last: bool) -> None:
        self.transport.write(CLOSING if last else KEEPING)
        if last:
            self.transport.close()


async def serve() -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    server = await loop.create_server(Answers, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.add_reader(sys.stdin, over.set)
    await over.wait()


def main() -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())


if __name__ == "__main__":
    main()
