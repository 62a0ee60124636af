"""A worker: takes spans, runs their calls under the model, records each outcome."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from procoro.wire import blocks, channel, codec, record
from procoro.wire.library import Reader
from procoro.worker import output, state
from procoro.worker.models import serial


def run(fds: list[int]) -> None:
    """The life of a worker, from its start request to its end."""
    end_fd, record_fd, library_fd, state_fd, stdin, stdout, stderr = fds
    end = socket.socket(fileno=end_fd)
    os.dup2(stdin, 0)
    printed: list[bool] = []
    streams = output.open_streams(stdout, stderr, printed)
    with open(state_fd, "rb") as file:
        file.seek(0)
        caller, initializer = pickle.load(file)
    for fd in (stdin, stdout, stderr):
        os.close(fd)
    levels = state.put_on(caller)
    output.ForwardLogging(end, levels)
    worker = Worker(end, record.Record(record_fd), Reader(library_fd), streams, printed)
    if worker.initialize(initializer):
        worker.serve()


class Worker:
    """What a worker holds."""

    def __init__(
        self,
        end: socket.socket,
        memory: record.Record,
        library: Reader,
        streams: tuple[output.LineWriter, output.LineWriter],
        printed: list[bool],
    ) -> None:
        self.end = end
        self.memory = memory
        self.library = library
        self.streams = streams
        self.printed = printed  # not empty: there is something to flush
        self.pid = os.getpid()
        # A call that forks may return twice. The copy is noticed where it would flush.
        os.register_at_fork(after_in_child=lambda: printed.append(True))
        self._blocks = 0

    def initialize(self, initializer: tuple[int, int, bytes] | None) -> bool:
        """Run the initializer, if there is one; tell whether the worker is ready."""
        try:
            if initializer is not None:
                length, place, arguments = initializer
                self.library.catch_up(length)
                function = self.library.function(place)
                function(*pickle.loads(arguments))
        except BaseException as error:
            self.flush()
            failure = codec.pack_failure(error)
            if len(failure) > channel.INLINE:
                failure = codec.pack_failure(RuntimeError(repr(error)[: channel.INLINE // 8]))
            channel.send(self.end, [channel.FAILED_TO_START, failure])
            return False
        self.flush()
        try:
            channel.send(self.end, [channel.READY])
        except OSError:  # the caller has given this start up
            return False
        return True

    def serve(self) -> None:
        """Run spans until told to leave, or until nobody is left to tell."""
        while True:
            message, fds = channel.receive(self.end)
            if not message or message[:1] == channel.QUIT:
                self.flush()
                return
            self._run_span(message, fds)

    def _run_span(self, message: bytes, fds: list[int]) -> None:
        _, shape, packing, slot, number, count, place, length = channel.SPAN_HEAD.unpack_from(message)
        self.memory.header[record.TAKEN] = number
        data = memoryview(message)[channel.SPAN_HEAD.size :]
        load: Callable[[Any], Any] | None = None
        try:
            if packing & channel.IN_BLOCK:
                data = blocks.map_received(fds)
            self.library.catch_up(length)
            function = serial.as_plain_function(self.library.function(place))
            inputs = codec.unpack_span(packing & ~channel.IN_BLOCK, data, count)
        except BaseException as error:
            function, inputs = _raiser(error), [None] * count
            shape = codec.ONE
        else:
            if packing & ~channel.IN_BLOCK == channel.EACH:
                load = pickle.loads
            elif packing & ~channel.IN_BLOCK == channel.PARTS:
                load = _call
        self.memory.header[record.LOADED] = number
        began = time.perf_counter()
        ran = serial.run(self, slot, number, function, shape, inputs, load)
        seconds = time.perf_counter() - began
        channel.send(self.end, [channel.ENDED_HEAD.pack(channel.ENDED, number, ran, seconds)])

    def look(self) -> None:
        """Let the parent know that there are new outcomes to read."""
        channel.send(self.end, [channel.LOOK])

    def put_block(self, parts: blocks.Parts) -> bytes:
        """Hand a block over before its outcome is recorded, so that whoever reads the record can have it."""
        self._blocks += 1
        fd = blocks.write_parts([parts])
        try:
            channel.send(self.end, [channel.BLOCK_HEAD.pack(channel.BLOCK, self._blocks)], [fd])
        finally:
            os.close(fd)
        return self._blocks.to_bytes(8, "little")

    def flush(self) -> None:
        """Write out what calls have printed; what cannot be written is not the call's fault."""
        for stream in {*self.streams, sys.stdout, sys.stderr}:
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
        self.printed.clear()
        if os.getpid() != self.pid:
            os._exit(0)


def _call(load: Callable[[], Any]) -> Any:
    return load()


def _raiser(error: BaseException) -> Callable[[Any], Any]:
    def fail(_: Any) -> Any:
        raise error

    return fail
