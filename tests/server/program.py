"""A server as a program: `program.py KIND HANDLER SETTINGS`; says its addresses, serves, says that it has stopped."""

import json
import logging
import resource
import signal
import sys

from procoro.server.server import Server
from tests.server.handlers import handler


def main(kind: str, name: str, words: str) -> None:
    """As above."""
    logging.basicConfig(level=logging.WARNING)
    settings = json.loads(words)
    if limit := settings.pop("files", None):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    server = Server(handler(kind, name), **({"port": 0, "processes": 1} | settings))
    print(json.dumps(server.addresses), flush=True)
    server.run()
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    print("stopped", before == after, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
