"""`multiprocessing.Pipe`, whose ends see the death of the other side, and can be awaited.

A pipe is a pair of SEQPACKET sockets: a message is there whole or not at all. What is large goes as memory beside it,
without passing through the socket's buffer, and so do the descriptors of handles (locks, queues, ends of pipes).
"""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import select
import socket
import struct
import sys
import termios
import weakref
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any, Self

from procoro import kernel
from procoro.errors import NotPicklable
from procoro.ipc import items, shared
from procoro.ipc.carriers import Incoming, Outgoing
from procoro.ipc.waiting import Sleeper, Waiting, deadline_of, may_block, sleep_until, wait
from procoro.wire import channel, handles
from procoro.wire.channel import CLOEXEC, DONTWAIT, SPACE

INLINE = 32 * 1024  # bytes of a message that go through the socket
# The last byte of a message is its kind. All but small ones have a head: is the body in a carrier, handles that follow,
# bytes, key of the carrier, place there.
SMALL_PICKLE, SMALL_BYTES, PICKLE, BYTES, BYTES_OBJECT = range(5)
KINDS = [bytes([kind]) for kind in range(5)]
SMALL = KINDS[SMALL_PICKLE]
HEAD = struct.Struct("<BHQQQ")
KEYS = struct.Struct("<QB")  # of a handle: its key, its descriptors
MOST_DESCRIPTORS = 200  # in a message
LARGEST = HEAD.size + MOST_DESCRIPTORS * KEYS.size + INLINE
BUFFER = 1 << 20
LOOKS = 40  # whether a receiver has made room for a large message: it needs 10 µs for one of 64 KiB
NO_ROOM = 0.001  # seconds before it is looked again
LOST = 1.0  # seconds after which a large message that was received, and not copied out, has died with its receiver

Packed = bytes | tuple[int, list[Any], Sequence[handles.Handle]]  # a small pickle, or kind, pieces, handles
Received = tuple[int, Any, list[handles.Arrived]]  # kind, body, handles


class Connection:
    """One end of a `Pipe`. Several may wait on it, and each message goes to one of them.

    It can be sent to other processes, as an argument or through another pipe; the end here stays open until it is
    closed or dropped.
    """

    def __init__(self, end: socket.socket, readable: bool = True, writable: bool = True) -> None:
        self._end = end
        self._readable, self._writable = readable, writable
        self.key = os.fstat(end.fileno()).st_ino
        self.awaited_by: weakref.WeakSet[Any] = weakref.WeakSet()
        self._carriers = _Carriers(0)  # of no process: made anew by the first that needs some
        # In a cycle that is collected, `__del__` would come too late: the socket may be first, and warn.
        weakref.finalize(self, end.close).atexit = False

    # ---- as in multiprocessing.connection.Connection

    @property
    def closed(self) -> bool:
        """Has this end been closed?"""
        return self._end.fileno() < 0

    @property
    def readable(self) -> bool:
        """Can one receive here?"""
        return self._readable

    @property
    def writable(self) -> bool:
        """Can one send here?"""
        return self._writable

    def fileno(self) -> int:
        """The descriptor, for `select` and its like."""
        self._check()
        return self._end.fileno()

    def close(self) -> None:
        """Close this end. The other side gets what was sent, and then EOFError."""
        self._end.close()
        self._carriers.close()

    def __del__(self) -> None:
        if hasattr(self, "_carriers") and os is not None:  # as in `shared.Descriptors`
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, obj: Any) -> None:
        """Send an object, waiting while the other side is behind.

        Raises:
            procoro.errors.NotPicklable: it cannot travel; the message gives its path.
            BrokenPipeError: nobody is at the other end any more.
        """
        packed = _pack(obj)
        if type(packed) is bytes and self._writable and may_block():
            try:
                self._end.send(packed)
            except OSError:
                self._check()
                raise
        else:
            self._send(packed)

    async def asend(self, obj: Any) -> None:
        """As `send`, to be awaited."""
        await self._asend(_pack(obj))

    def recv(self) -> Any:
        """Receive an object, waiting for it. Raises EOFError if nobody is at the other end any more."""
        if self._readable and may_block():
            try:
                data, ancillary, _, _ = self._end.recvmsg(LARGEST, SPACE, CLOEXEC)
            except OSError:
                pass  # the longer way finds out why
            else:
                if data and data[-1] == SMALL_PICKLE:
                    return pickle.loads(data)
                return self._unpack(*self._opened(data, ancillary))
        return self._unpack(*self._receive())

    async def arecv(self) -> Any:
        """As `recv`, to be awaited."""
        return self._unpack(*await self._areceive())

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send bytes (or a part of them) as one message."""
        whole = type(buf) is bytes and offset == 0 and size is None
        self._send((BYTES, [buf if whole else _part(buf, offset, size)], ()))

    async def asend_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """As `send_bytes`, to be awaited."""
        await self._asend((BYTES, [_part(buf, offset, size)], ()))

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive one message of bytes. Raises OSError if it is longer than `maxlength`, and closes this end."""
        _check_length(maxlength)
        return self._limited(self._receive(), maxlength)

    async def arecv_bytes(self, maxlength: int | None = None) -> bytes:
        """As `recv_bytes`, to be awaited."""
        _check_length(maxlength)
        return self._limited(await self._areceive(), maxlength)

    def _limited(self, received: Received, maxlength: int | None) -> bytes:
        kind, body, fds = received
        if fds:
            handles.close(fds)
        if kind in (BYTES_OBJECT, PICKLE) and not fds:  # a large object by `send`: as the pickle that a small one is
            data = pickle.dumps(self._unpack(kind, body, []), 5)
        else:
            data = body[:-1] if kind <= SMALL_BYTES else bytes(body)
        if maxlength is not None and len(data) > maxlength:
            self.close()
            raise OSError("bad message length")
        return data

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Receive one message of bytes into `buf`, from `offset` on; how many.

        Raises:
            multiprocessing.BufferTooShort: they do not fit in; the message is in its `args[0]`.
        """
        with memoryview(buf) as view, view.cast("B") as target:
            if not 0 <= offset <= target.nbytes:
                raise ValueError("negative offset" if offset < 0 else "offset too large")
            data = self.recv_bytes()
            if len(data) > target.nbytes - offset:
                from multiprocessing import BufferTooShort

                raise BufferTooShort(data)
            target[offset : offset + len(data)] = data
            return len(data)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Is there something to receive (the end, too), within `timeout` seconds (None: as long as it takes)?"""
        self._check_readable()
        return sleep_until(self._until(select.EPOLLIN, deadline_of(timeout)))

    async def apoll(self, timeout: float | None = 0.0) -> bool:
        """As `poll`, to be awaited."""
        self._check_readable()
        return await wait(self._until(select.EPOLLIN, deadline_of(timeout)))

    # ---- sending and receiving

    def _is_ready(self, what: int) -> bool:
        poll = select.poll()
        poll.register(self._end, what)
        return bool(poll.poll(0))

    def _until(self, what: int, deadline: float | None) -> Waiting[bool]:
        if self._is_ready(what):
            return True
        with Sleeper(None, deadline) as sleeper:
            sleeper.add(self.fileno(), what)
            while not self._is_ready(what):
                if sleeper.late:
                    return False
                yield sleeper
        return True

    def _send(self, packed: Packed) -> None:
        if not (may_block() and self._send_at_once(packed)):
            for sleeping in self._sending(packed):
                sleep_until(sleeping)

    def _send_at_once(self, packed: Packed) -> bool:
        """Send it, if it brings no handles along and there is room; else it goes the longer way."""
        self._check_writable()
        if isinstance(packed, bytes) or packed[2]:
            return False
        kind, pieces, _ = packed
        size = sum(map(len, pieces))
        if size > INLINE:
            loaded = self._carriers_here().outgoing.load(pieces, size)
            if loaded is None:
                return False
            carrier, place = loaded
            self._end.sendmsg([HEAD.pack(True, 0, size, carrier.key, place), KINDS[kind]], carrier.ancillary)
            return True
        if kind == BYTES:
            self._end.sendmsg([*pieces, KINDS[SMALL_BYTES]])
            return True
        return False

    async def _asend(self, packed: Packed) -> None:
        for sleeping in self._sending(packed):
            await wait(sleeping)

    def _sending(self, packed: Packed) -> Iterator[Waiting[bool]]:
        """Send, and give what to wait for each time there is no room."""
        self._check_writable()
        kind, pieces, found = (SMALL_PICKLE, [packed[:-1]], ()) if isinstance(packed, bytes) else packed
        size = sum(map(len, pieces))
        fds: list[int] = []  # to be closed here
        carried: list[int] = []
        carrier, key, place = None, 0, 0
        try:
            if size > INLINE:
                looks = 0
                since = monotonic()
                while (loaded := self._carriers_here().outgoing.load(pieces, size)) is None:
                    looks += 1
                    if looks < LOOKS:
                        os.sched_yield()
                        continue
                    if self._is_ready(select.POLLHUP):
                        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
                    if self._is_under_way():
                        since = monotonic()
                    elif monotonic() - since > LOST:
                        # What is in the carrier was received by who died of it: that never becomes free.
                        self._carriers_here().outgoing.close()
                        continue
                    yield self._until(0, deadline_of(NO_ROOM))
                carrier, place = loaded
                key, carried, pieces = carrier.key, [carrier.fd], []
            if kind == SMALL_PICKLE or (kind == BYTES and size <= INLINE):
                pieces = [*pieces, KINDS[min(kind, SMALL_BYTES)]]
            else:
                keys = []
                for handle in found:
                    lent = handle.lend()
                    fds += lent
                    keys.append(KEYS.pack(handle.key, len(lent)))
                if len(fds) > MOST_DESCRIPTORS:
                    raise NotPicklable(f"a message can carry {MOST_DESCRIPTORS} descriptors, and not {len(fds)}")
                pieces = [HEAD.pack(carrier is not None, len(keys), size, key, place), *keys, *pieces, KINDS[kind]]
            while True:
                try:
                    channel.send(self._end, pieces, carried + fds, DONTWAIT)
                    return
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                        raise
                yield self._until(select.EPOLLOUT, None)
        finally:
            kernel.close_all(fds)

    def _is_under_way(self) -> bool:
        """Is there a message that nobody has received yet?"""
        return int.from_bytes(fcntl.ioctl(self._end, termios.TIOCOUTQ, bytes(4)), sys.byteorder) > 0

    def _carriers_here(self) -> _Carriers:
        if self._carriers.pid != shared.pid:  # a parent and its child must not both write to one carrier
            self._carriers = _Carriers(shared.pid)
        return self._carriers

    def _receive(self) -> Received:
        flags = CLOEXEC if may_block() else CLOEXEC | DONTWAIT
        while (received := self._take(flags)) is None:
            sleep_until(self._until(select.EPOLLIN, None))
        return received

    async def _areceive(self) -> Received:
        while (received := self._take(CLOEXEC | DONTWAIT)) is None:
            await wait(self._until(select.EPOLLIN, None))
        return received

    def _take(self, flags: int) -> Received | None:
        if not self._readable:
            self._check_readable()
        try:
            data, ancillary, _, _ = self._end.recvmsg(LARGEST, SPACE, flags)
        except BlockingIOError:
            return None
        except ConnectionError:  # the other side has not read all of ours; what it sent is behind that
            data, ancillary, _, _ = self._end.recvmsg(LARGEST, SPACE, flags)
        except OSError:
            self._check()
            raise
        return self._opened(data, ancillary)

    def _opened(self, data: bytes, ancillary: Sequence[tuple[int, int, bytes]]) -> Received:
        """What a message is, with all that came beside it."""
        if not data:
            raise EOFError("nobody is at the other end of the pipe any more")
        kind = data[-1]
        if kind <= SMALL_BYTES:
            return kind, data, []
        in_carrier, count, size, key, place = HEAD.unpack_from(data)
        fds = channel.descriptors(ancillary)
        keys = list(KEYS.iter_unpack(data[HEAD.size : HEAD.size + count * KEYS.size])) if count else ()
        if len(fds) != in_carrier + (sum(number for _, number in keys) if keys else 0):
            kernel.close_all(fds)
            raise OSError(errno.EMFILE, f"{os.strerror(errno.EMFILE)}: a message has been lost")
        body: Any
        if in_carrier:
            body = self._carriers_here().incoming.unload(key, fds.pop(0), place, size, kind == PICKLE)
        else:
            body = memoryview(data)[HEAD.size + count * KEYS.size : -1]
        arrived = []
        for key, number in keys:
            arrived.append((key, fds[:number]))
            del fds[:number]
        return kind, body, arrived

    def _unpack(self, kind: int, body: Any, arrived: list[handles.Arrived]) -> Any:
        if kind == BYTES_OBJECT:
            return bytes(body)
        if kind != PICKLE:  # what was sent by `send_bytes` may be a pickle, as multiprocessing has it
            return pickle.loads(body)
        with handles.arriving(arrived):
            return items.load(body)

    # ---- the rest

    def _check(self) -> None:
        if self.closed:
            raise OSError("handle is closed")

    def _check_readable(self) -> None:
        self._check()
        if not self._readable:
            raise OSError("connection is write-only")

    def _check_writable(self) -> None:
        self._check()
        if not self._writable:
            raise OSError("connection is read-only")

    def lend(self) -> list[int]:
        """As in `Handle`."""
        self._check()
        return [os.dup(self._end.fileno())]

    def __reduce__(self) -> Any:
        self._check()
        return _arrive, (handles.collect(self), self._readable, self._writable)

    def __repr__(self) -> str:
        return f"<procoro.Connection {'closed' if self.closed else self._end.fileno()}>"


def _arrive(key: int, readable: bool, writable: bool) -> Connection:
    (fd,) = handles.take(key)
    end = socket.socket(fileno=os.dup(fd))
    end.settimeout(None)  # whatever default the user has set
    return Connection(end, readable, writable)


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:  # noqa: N802  (as in multiprocessing)
    """Two connected ends; with `duplex=False`, the first can only receive and the second only send.

    >>> from procoro import Pipe
    >>> here, there = Pipe()
    >>> here.send("hello")
    >>> there.recv()
    'hello'
    """
    ends = [socket.socket(fileno=end.detach()) for end in channel.pair()]
    for end in ends:
        end.settimeout(None)  # whatever default the user has set
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    return Connection(ends[0], True, duplex), Connection(ends[1], duplex, True)


def _pack(obj: Any) -> Packed:
    if type(obj) is bytes and len(obj) > INLINE:
        return BYTES_OBJECT, [obj], ()
    plain = items.plain(obj)
    if plain is not None:
        return plain + SMALL if len(plain) <= INLINE else (PICKLE, items.join(plain, ()), ())
    with handles.collecting() as found:
        body, views = items.dump(obj, "message")
    if not (views or found) and len(body) <= INLINE:
        return body + SMALL
    return PICKLE, items.join(body, views), found


def _check_length(maxlength: int | None) -> None:
    if maxlength is not None and maxlength < 0:
        raise ValueError(f"maxlength must be >= 0 or None, got {maxlength!r}")


def _part(buf: Any, offset: int, size: int | None) -> memoryview:
    view = memoryview(buf).cast("B")
    if offset < 0:
        raise ValueError("offset is negative")
    if offset > view.nbytes:
        raise ValueError("buffer length < offset")
    if size is None:
        return view[offset:]
    if size < 0:
        raise ValueError("size is negative")
    if offset + size > view.nbytes:
        raise ValueError("buffer length < offset + size")
    return view[offset : offset + size]


class _Carriers:
    """The carriers of one end in one process, made when they are needed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.outgoing = Outgoing()
        self.incoming = Incoming()

    def close(self) -> None:
        """Nothing more is sent or received."""
        self.outgoing.close()
        self.incoming.close()
