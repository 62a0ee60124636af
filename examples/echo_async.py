"""The echo server with an `async def` handler: a task a connection, on uvloop."""

from procoro import serve


async def echo(conn):
    async for chunk in conn:
        await conn.sendall(chunk)


if __name__ == "__main__":
    serve(echo, port=9001, backlog=500)
