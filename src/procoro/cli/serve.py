"""`procoro serve`: a handler on every core, one coroutine a connection."""

from __future__ import annotations

from typing import Any

import click

from procoro.server.settings import BACKLOG, DRAIN, HANDSHAKE, LINE, MESSAGE


@click.command("serve", short_help="Serve connections on every core.")
@click.argument("handler", metavar="HANDLER")
@click.option("--host", metavar="HOST", multiple=True, default=("127.0.0.1",), help="May be repeated; '' is all.")
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), help="Where to listen; 0: any free one.")
@click.option("--path", metavar="SOCKET", help="A Unix socket to listen on, instead or besides.")
@click.option("--processes", metavar="N", type=click.IntRange(min=1), help="Workers; default: the usable cores.")
@click.option(
    "--model",
    type=click.Choice(["greenlets", "asyncio"]),
    help="How a worker runs connections; default: `async def` ones by asyncio, others by greenlets.",
)
@click.option("--certfile", metavar="FILE", help="Speak TLS: a certificate and its chain, with or without its key.")
@click.option("--keyfile", metavar="FILE", help="The key of the certificate.")
@click.option("--client-ca", metavar="FILE", help="Clients must have a certificate that one of these has signed.")
@click.option(
    "--backlog", metavar="N", type=click.IntRange(min=1), default=BACKLOG, help="Connections that wait; default: 500."
)
@click.option("--max-connections", metavar="N", type=click.IntRange(min=1), help="Open ones in a worker.")
@click.option("--max-per-address", metavar="N", type=click.IntRange(min=1), help="Of one address, in a worker.")
@click.option(
    "--max-line", metavar="BYTES", type=click.IntRange(min=1), default=LINE, help="Of readline; default: 64 KiB."
)
@click.option(
    "--max-message",
    metavar="BYTES",
    type=click.IntRange(min=1),
    default=MESSAGE,
    help="Of read_exactly; default: 64 MiB.",
)
@click.option("--handshake-timeout", metavar="SECONDS", type=float, default=HANDSHAKE, help="Of TLS; default: 10.")
@click.option("--idle-timeout", metavar="SECONDS", type=float, help="Longest time without anything received.")
@click.option("--handler-timeout", metavar="SECONDS", type=float, help="Longest time for a connection.")
@click.option(
    "--drain-timeout", metavar="SECONDS", type=float, default=DRAIN, help="For what is open at the end; default: 30."
)
@click.option("--access-log", is_flag=True, help="A line for each connection on standard error.")
def serve_command(handler: str, host: tuple[str, ...], access_log: bool, **given: Any) -> None:
    """Call HANDLER for each connection, in workers on every core.

    HANDLER is module:name or path/to/file.py:name. An `async def` takes a procoro Connection; a plain function
    takes an ordinary socket, and runs in a greenlet of its own.

    All files are in PEM format; SIGHUP reads them again.

    SIGTERM or Ctrl-C accepts no more and lets open connections end; the second one ends them at once. SIGHUP
    replaces the workers one by one, and refuses nobody.

    \b
    Exit status
      0  it was stopped
      1  its workers could not begin
      2  the command line cannot be carried out

    \b
    Examples
      procoro serve echo.py:handle_request --port 9001
      procoro serve chat.server:talk --host '' --port 7000 --idle-timeout 300
    """
    import logging
    import sys

    from procoro.cli.function import FunctionError, load
    from procoro.server.listeners import address_in_words
    from procoro.server.server import Server

    logging.basicConfig(
        format="%(asctime)s %(name)s: %(message)s", level=logging.INFO if access_log else logging.WARNING
    )
    if given["port"] is None and given["path"] is None:
        raise click.UsageError("where to listen? Give --port or --path")
    try:
        server = Server(load(handler).function, host, **given)
    except (FunctionError, OSError, TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    for address in server.addresses:
        click.echo(f"procoro serve: {handler} on {address_in_words(address)}", err=True)
    try:
        server.run()
    except Exception as error:
        click.echo(f"procoro serve: the workers could not begin: {error!r}", err=True)
        sys.exit(1)
