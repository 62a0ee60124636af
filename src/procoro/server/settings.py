"""What a server is told, checked at the door; plain data that travels to its workers."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from typing import Any

from procoro import arguments
from procoro.functions import is_async
from procoro.server.handlers import runs_by_asyncio

SPARE = 64  # descriptors that a worker keeps for other things than connections (half of them, if there are not many)
LONGEST = 366 * 86400.0  # seconds: what is longer is no limit, and too much for some clocks
BACKLOG = 500
LINE = 64 * 1024
MESSAGE = 64 * 1024 * 1024
HANDSHAKE = 10.0
DRAIN = 30.0


class Settings:
    """All but the addresses."""

    def __init__(
        self,
        handler: Callable[[Any], Any],
        *,
        model: str | None = None,
        backlog: int = BACKLOG,
        max_connections: int | None = None,
        max_per_address: int | None = None,
        max_line: int = LINE,
        max_message: int = MESSAGE,
        handshake_timeout: float = HANDSHAKE,
        idle_timeout: float | None = None,
        handler_timeout: float | None = None,
        drain_timeout: float = DRAIN,
        on_start: Callable[[], Any] | None = None,
        on_stop: Callable[[], Any] | None = None,
    ) -> None:
        if not callable(handler):
            raise TypeError(f"handler must be a function of one connection, got {handler!r}")
        for name, hook in (("on_start", on_start), ("on_stop", on_stop)):
            arguments.callback(name, hook)
        self.handler = handler
        self.model = model
        self.is_async = runs_by_asyncio(handler, model)
        for name, hook in (("on_start", on_start), ("on_stop", on_stop)):
            if is_async(hook) and not self.is_async:
                raise TypeError(f"{name} is an `async def` function, and runs only beside an `async def` handler")
        self.backlog = min(arguments.count("backlog", backlog, 1), 1 << 30)  # the kernel has a limit of its own
        self.max_connections = _connections(max_connections)
        self.max_per_address = (
            None if max_per_address is None else arguments.count("max_per_address", max_per_address, 1)
        )
        self.max_line = arguments.count("max_line", max_line, 1)
        self.max_message = arguments.count("max_message", max_message, 1)
        self.handshake_timeout = _limit("handshake_timeout", handshake_timeout)
        self.idle_timeout = arguments.seconds("idle_timeout", idle_timeout)
        self.handler_timeout = arguments.seconds("handler_timeout", handler_timeout)
        self.drain_timeout = _limit("drain_timeout", drain_timeout)
        self.on_start = on_start
        self.on_stop = on_stop

    def check_again(self) -> None:
        """In a worker, for which the handler has been imported anew: it must be of the kind that it was."""
        if runs_by_asyncio(self.handler, self.model) != self.is_async:
            was, now = ("`async def`", "plain") if self.is_async else ("plain", "`async def`")
            raise TypeError(f"{self.handler!r} was {was}, and is {now} now: the server must be started anew for that")


def _limit(name: str, value: Any) -> float:
    """Seconds, of which there must be a limit."""
    if value is None:
        raise TypeError(f"{name} must be a number of seconds, got None")
    if isinstance(value, (int, float)) and not value > 0:
        raise ValueError(f"{name} must be > 0 seconds, got {value!r}")
    return min(arguments.seconds(name, value) or 0.0, LONGEST)


def _connections(given: int | None) -> int:
    """As many as there may be descriptors, less some to spare: what is beyond that waits in the backlog."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(soft - min(SPARE, soft // 2), 1 << 20) if soft != resource.RLIM_INFINITY else 1 << 20
    return most if given is None else min(arguments.count("max_connections", given, 1), most)


def hosts(host: Any) -> list[str | None]:
    """The names that a server listens on; None: on all addresses of the machine."""
    if host is None or isinstance(host, str):
        return [host or None]
    found = list(host) if isinstance(host, Sequence) else []
    if not found or not all(isinstance(one, str) for one in found):
        raise TypeError(f"host must be a name, a sequence of names or None, got {host!r}")
    return [one or None for one in found]
