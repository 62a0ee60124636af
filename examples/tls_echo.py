"""The echo server over TLS: `python tls_echo.py CERTFILE KEYFILE [PORT]`, with files in PEM format."""

import sys

from procoro import serve


async def echo(conn):
    async for chunk in conn:
        await conn.sendall(chunk)


if __name__ == "__main__":
    certfile, keyfile, *port = sys.argv[1:]
    serve(echo, port=int(port[0]) if port else 9002, certfile=certfile, keyfile=keyfile)
