"""One connection, as the coroutine that handles it sees it: a thin layer over an asyncio Protocol.

asyncio's own streams cost twice as much: what arrives is copied into a buffer there, and each read is searched for a
separator. Here a chunk goes to who waits for it as it came.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from procoro.server import counters
from procoro.server.receiving import QUIET, arrived, reset_at_close, shut_receiving, untaken

if TYPE_CHECKING:
    from procoro.server.tasks import Tasks

HIGH = 256 * 1024  # bytes that wait to be received, above which no more are read from the socket
CHUNK = 64 * 1024
SLICE = 64 * 1024  # bytes that are given to TLS at a time
CRUMB = 1024  # chunks that are smaller are gathered: each would cost more memory than it holds


class Connection(asyncio.Protocol):
    """A connection: `recv`, `sendall`, `readline`, `read_exactly`, `async for chunk in conn`.

    Reading ends with b"" when the other side has sent all, and raises ConnectionError when it is gone. A read that is
    cancelled takes nothing. `sendall` waits until the other side has taken most of what was sent: a client that does
    not read costs no memory.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._cells = tasks.cells
        self._transport: asyncio.Transport | None = None
        self._chunks: list[bytes | bytearray] = []  # what has arrived and has not been taken:
        self._start = 0  # from here on in the first one,
        self._size = 0  # so many bytes in all
        self.received = 0  # bytes, ever
        self._eof = False
        self._paused = False
        self._lost = False  # it is closed, whichever side did that
        self._error: Exception | None = None  # what was wrong with it then; None: nothing
        self._reader: asyncio.Future[None] | None = None  # who waits for something to arrive
        self._writers: list[asyncio.Future[None]] | None = None  # who waits until more may be sent; None: nobody has to
        self.task: asyncio.Task[None] | None = None  # of its handler; None: that has ended
        self.cancelled_at: float | None = None  # when that was cancelled by us, the last time
        self._turn: asyncio.Lock | None = None  # to send, where a message goes in slices
        self._unsent = 0  # bytes that the other side had not taken at the last look
        self._waited = False  # did its handler wait in vain then?
        self._heard = True  # has something arrived since?
        self.peername: Any = None
        self.began = self._seen = monotonic()

    # ------------------------------------------------------------------------- as an asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As in Protocol."""
        self._transport = transport  # type: ignore[assignment]
        if self.task is None:  # by TLS it has been here since before its handshake
            self.peername = transport.get_extra_info("peername")
            self._tasks.opened(self)

    def data_received(self, data: bytes) -> None:
        """As in Protocol."""
        size = len(data)
        self._heard = True
        self.received += size
        self._cells[counters.RECEIVED] += size
        if self._size and size < CRUMB:
            self._gather(data)
        else:
            self._chunks.append(data)
        self._size += size
        if self._reader is not None:
            self._wake()
        elif self._size > HIGH and not self._paused:
            self.pause_reading()

    def _gather(self, crumb: bytes) -> None:
        last = self._chunks[-1]
        if type(last) is bytearray and len(last) < CHUNK:
            last += crumb
        else:
            self._chunks.append(bytearray(crumb))

    def eof_received(self) -> bool:
        """As in Protocol: we may still send, but not by TLS."""
        self._eof = True
        self._wake()
        return not self._tasks.is_secure

    def connection_lost(self, exc: Exception | None) -> None:
        """As in Protocol."""
        self._lost = self._eof = True
        self._error = exc
        if self._reader is not None:
            self._wake()
        if self._writers is not None:
            self.resume_writing()
        self._tasks.closed(self)

    def _loss(self) -> ConnectionError:
        """What is raised for it."""
        if self._error is None:
            return ConnectionResetError("the connection is closed")
        if isinstance(self._error, ConnectionError):
            return self._error
        return ConnectionAbortedError(str(self._error))

    def pause_writing(self) -> None:
        """As in Protocol."""
        self._writers = []

    def resume_writing(self) -> None:
        """As in Protocol."""
        writers, self._writers = self._writers, None
        for writer in writers or ():
            if not writer.done():
                writer.set_result(None)

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():  # else who waited has been cancelled
            reader.set_result(None)

    # ------------------------------------------------------------------------------------- receiving

    async def recv(self, size: int = CHUNK) -> bytes:
        """What has arrived, up to `size` bytes; waits for some. b"": the other side has sent all."""
        if size < 0:
            raise ValueError(f"size must be >= 0 bytes, got {size}")
        while not self._size:
            if self._eof or self._paused or self._reader is not None:
                if not await self._more():
                    return b""
            else:  # as there, without a coroutine in between: this is what most time is spent in
                self._reader = reader = self._tasks.loop.create_future()
                try:
                    await reader
                finally:
                    if self._reader is reader:
                        self._reader = None
        chunk = self._chunks[0]
        if len(chunk) <= size and type(chunk) is bytes and not self._start and not self._paused:
            del self._chunks[0]
            self._size -= len(chunk)
            return chunk
        return self._take(min(size, len(chunk) - self._start))

    async def read_exactly(self, size: int) -> bytes:
        """Exactly `size` bytes.

        Raises:
            EOFError: the other side has sent all, and it was less.
            ValueError: that is more than the server's `max_message`.
        """
        most = self._tasks.settings.max_message
        if not 0 <= size <= most:
            raise ValueError(f"a message of {size:,} bytes; the server's max_message is {most:,}")
        while self._size < size:
            if not await self._more():
                raise EOFError(f"the connection ended after {self._size:,} of the {size:,} bytes that were to come")
        return self._take(size)

    async def readline(self) -> bytes:
        """The next line with its end; the last one may have none; b"": there are no more.

        Raises:
            ValueError: it is longer than the server's `max_line`.
        """
        most = self._tasks.settings.max_line
        searched = 0
        while not (size := self._line(searched)):
            searched = size = self._size
            if size > most or not await self._more():
                break
        if size > most:
            raise ValueError(f"a line longer than the server's max_line of {most:,} bytes")
        return self._take(size)

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self.recv()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def _more(self) -> bool:
        """Wait until more has arrived; False: nothing will."""
        if self._error is not None:
            raise self._loss()
        if self._eof:
            return False
        if self._reader is not None:
            raise RuntimeError("two tasks wait to receive from one connection: which gets what, is chance")
        if self._paused:
            self.resume_reading()
        self._reader = reader = self._tasks.loop.create_future()
        try:
            await reader
        finally:
            if self._reader is reader:
                self._reader = None
        return True

    def _line(self, searched: int) -> int:
        """Bytes of the next line with its end; 0: that is not among what has arrived. So many have been searched."""
        before = -self._start
        for chunk in self._chunks:
            if before + len(chunk) > searched:
                at = chunk.find(b"\n", max(searched - before, 0))
                if at >= 0:
                    return before + at + 1
            before += len(chunk)
        return 0

    def _take(self, size: int) -> bytes:
        """So many bytes of what has arrived."""
        parts = []
        left = size
        whole = 0  # chunks that are taken to their end
        while left:
            chunk = self._chunks[whole]
            end = min(self._start + left, len(chunk))
            parts.append(chunk[self._start : end])
            left -= end - self._start
            self._start = end
            if end == len(chunk):
                whole += 1
                self._start = 0
        del self._chunks[:whole]
        self._size -= size
        if self._paused and self._size <= HIGH // 2:
            self.resume_reading()
        if len(parts) == 1 and type(parts[0]) is bytes:
            return parts[0]
        return b"".join(parts)

    def pause_reading(self) -> None:
        """Let the kernel keep what comes."""
        if self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take it again."""
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # --------------------------------------------------------------------------------------- sending

    async def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Send all; waits while much of what was sent before has not been taken.

        Raises:
            ConnectionError: the other side is gone, or the connection was closed here.
        """
        if self.is_lost():
            raise self._loss()
        if type(data) is not bytes:  # who gave it may change it before it is sent
            data = memoryview(data).tobytes()
        if self._tasks.is_secure and (len(data) > SLICE or (self._turn is not None and self._turn.locked())):
            await self._send_in_slices(data)
            return
        self._cells[counters.SENT] += len(data)
        self._transport.write(data)  # type: ignore[union-attr]  # else it is lost
        if self._writers is not None:
            await self._taken()

    async def _taken(self) -> None:
        """Wait until more may be sent."""
        writer = self._tasks.loop.create_future()
        self._writers.append(writer)  # type: ignore[union-attr]
        await writer
        if self._lost:
            raise self._loss()

    async def _send_in_slices(self, data: bytes) -> None:
        """TLS takes whatever it is given, and tells only then that the other side does not."""
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            sent = 0
            try:
                while sent < len(data):
                    if self.is_lost():
                        raise self._loss()
                    self._transport.write(data[sent : sent + SLICE])  # type: ignore[union-attr]
                    sent += SLICE
                    if self._writers is not None:
                        await self._taken()
            except asyncio.CancelledError:
                if not self.is_lost():  # as without TLS: what has begun goes as a whole
                    self._transport.write(data[sent:])  # type: ignore[union-attr]
                    sent = len(data)
                raise
            finally:
                self._cells[counters.SENT] += min(sent, len(data))

    # -------------------------------------------------------------------------------------- its life

    def is_lost(self) -> bool:
        """Is it closed, or the other side gone?"""
        return self._lost or self._transport is None or self._transport.is_closing()

    def is_gone(self) -> bool:
        """Is it closed, and all that was sent taken or given up?"""
        return self._lost or self._transport is None

    def is_handled(self) -> bool:
        """Does its handler still run?"""
        return self.task is not None

    def idle(self, now: float) -> float:
        """Seconds for which its handler has waited to receive, or to send while nothing is taken; less rather than
        more. To be asked at each look."""
        before, self._unsent = self._unsent, 0 if self._transport is None else self._transport.get_write_buffer_size()
        waits = self._reader is not None or (self._writers is not None and self._unsent >= before > 0)
        if self._heard or not (waits and self._waited):
            self._heard, self._seen = False, now
        self._waited = waits
        return now - self._seen

    def left(self) -> int:
        """Bytes that were sent, and that the other side has not taken."""
        if self.is_gone():
            return 0
        return self._transport.get_write_buffer_size() + untaken(self.fileno())  # type: ignore[union-attr]

    def close(self) -> None:
        """Close it, when what was sent has been taken. Done when the handler returns, too."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close it now; the other side is to see that it has not got all."""
        if (fd := self.fileno()) >= 0:
            reset_at_close(fd)
        self.abort()

    def abort(self) -> None:
        """Close it now."""
        if self._transport is not None:
            self._transport.abort()

    def fileno(self) -> int:
        """Of its socket; -1: it is closed."""
        own = self.get_extra_info("socket")
        return -1 if own is None else int(own.fileno())

    def shut_receiving(self) -> None:
        """Nothing more is to come: what has arrived is still received, then it ends."""
        fd = self.fileno()
        if fd < 0:
            if self.task is not None and self._transport is None:  # it is in its handshake, in which nothing is heard
                self.task.cancel()
        elif self._tasks.is_secure:
            self._receive_up_to(self.received + arrived(fd), -1)
        else:
            shut_receiving(fd)

    def _receive_up_to(self, most: int, before: int) -> None:
        # Where a socket is shut, TLS takes that for a broken connection, and nothing could be answered.
        if self._paused or before < self.received < most:
            self._tasks.loop.call_later(QUIET, self._receive_up_to, most, self.received)
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self.eof_received()

    def get_extra_info(self, name: str) -> Any:
        """As of an asyncio transport: "sockname", "socket"."""
        return None if self._transport is None else self._transport.get_extra_info(name)
