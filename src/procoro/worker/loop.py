"""A worker: takes spans, runs their calls under the model, records each outcome."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import signal
import sys
import weakref
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from contextvars import copy_context
from importlib import import_module
from mmap import mmap
from time import perf_counter as clock  # by name: calls may patch the module
from typing import TYPE_CHECKING, Any

from procoro.wire import blocks, channel, handles, record
from procoro.wire.exceptions import add_note, pack_failure
from procoro.wire.inputs import CARRIED, ONE, unpack_span
from procoro.wire.library import Reader
from procoro.worker import calling, output, state
from procoro.worker.models import serial

if TYPE_CHECKING:
    from procoro.worker.crowd import Model


# Seconds for which a worker looks for more before it sleeps: to wake a core takes 50 us, and a single call wakes two
AWAKE = 0.0002


def run(fds: list[int]) -> int:
    """The life of a worker, from its start request to its end; its exit code."""
    end_fd, record_fd, library_fd, state_fd, stdout, stderr, *tracker = fds
    end = channel.adopt(end_fd)
    printed: list[bool] = []
    streams = output.open_streams(stdout, stderr, printed)
    with open(state_fd, "rb") as file:
        file.seek(0)
        caller, initializer, model, places = pickle.load(file)
    for fd in (stdout, stderr):
        os.close(fd)
    logging = state.put_on(caller)
    state.use_tracker(tracker)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # blocked in the template
    output.ForwardLogging(end, logging)
    worker = Worker(end, record.Record(record_fd), Reader(library_fd), streams, printed, model, places)
    if worker.initialize(initializer):
        worker.serve()
    return 0


class Span:
    """Calls that were sent together."""

    __slots__ = ("block", "call", "inputs", "load", "number", "originals", "packed", "shape", "slot")

    def __init__(
        self,
        number: int,
        slot: int,
        shape: int,
        inputs: list[Any],
        load: Callable[[Any], Any] | None,
        call: Callable[[Any], Any],
        block: weakref.ref[mmap] | None,
        packed: memoryview | None = None,
    ) -> None:
        self.block = block  # the mapping of its inputs, as long as anything looks into it; None: nothing does
        self.number = number
        self.slot = slot
        self.shape = shape
        self.inputs = inputs
        self.load = load  # makes an input of what came; None: it came as it is
        self.call = call  # runs the function with what came
        self.packed = packed  # all inputs, if calls may change them
        self.originals: list[Any] | None = None

    def take(self, at: int) -> Any:
        """The input of a call that begins, as it came. What the call puts into a row lives no longer than the call."""
        given = self.inputs[at]
        if self.packed is not None:
            self.inputs[at] = None
        return given

    def given(self, at: int) -> Any:
        """The input of a call as it came: the call may have changed it since."""
        if self.load is not None:
            with handles.once_more():
                return self.load(self.inputs[at])
        if self.packed is None:
            return self.inputs[at]
        if self.originals is None:
            self.originals = pickle.loads(self.packed)
        return self.originals[at]


class Worker:
    """What a worker holds."""

    def __init__(
        self,
        end: channel.End,
        memory: record.Record,
        library: Reader,
        streams: tuple[output.LineWriter, output.LineWriter],
        printed: list[bool],
        model: str,
        places: int,
    ) -> None:
        self.end = end
        self.memory = memory
        self.library = library
        self.streams = streams
        self.returns_large = False  # was the last value large? Then the next one is not pickled in one piece first
        self.printed = printed  # not empty: there is something to flush
        self.pid = os.getpid()
        # A call that forks may return twice. The copy is noticed where it would flush.
        self._forks = 0
        os.register_at_fork(after_in_child=lambda: printed.append(True), after_in_parent=self._count_fork)
        self._end_is = os.fstat(end.fileno())
        self._blocks = itertools.count(1)
        self._crowds = model, places  # what runs calls beside each other, and how many
        self._model: Model | None = None
        self._arrived: list[handles.Arrived] = []  # for the names and the function of the next span
        self._inputs: list[int] = []  # keys of the handles in its inputs

    def initialize(self, initializer: bytes | None) -> bool:
        """Run the initializer, if there is one; tell whether the worker is ready."""
        try:
            if initializer is not None:
                message, fds = channel.receive(self.end)
                while message[:1] == channel.HANDLE:
                    self.take_handle(message, fds)
                    message, fds = channel.receive(self.end)
                if not message:  # the caller has given this start up
                    return False
                with self.arriving():
                    self.library.catch_up(channel.INITIALIZE_HEAD.unpack(message)[1])
                    function, arguments = pickle.loads(initializer)
                value = function(*arguments)
                if isinstance(value, Coroutine):
                    self._finish(value)
        except BaseException as error:
            self.flush()
            failure = pack_failure(error)
            if len(failure) > channel.INLINE:
                failure = pack_failure(RuntimeError(repr(error)[: channel.INLINE // 8]))
            channel.send(self.end, [channel.FAILED_TO_START, failure])
            return False
        self.flush()
        try:
            channel.send(self.end, [channel.READY])
        except OSError:  # the caller has given this start up
            return False
        return True

    def _finish(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run an initializer that is `async def`; what it sets in its context is seen by all calls."""
        context = copy_context()
        model: Any = self.model() if self._crowds[0] == "asyncio" else calling
        model.finish(coroutine, context)
        for variable, value in context.items():
            variable.set(value)

    def serve(self) -> None:
        """Run spans until told to leave, or until nobody is left to tell."""
        try:
            while True:
                message, fds = self._next_message()
                if message[:1] in (channel.CROWD, channel.END_CALL):
                    message, fds = self.model().serve(message, fds)  # until it has nothing to run, and this comes
                kind = message[:1]
                if kind == channel.SPAN:
                    self._run_span(message, fds)
                    handles.forget(self.inputs())
                elif kind in (channel.HANDLE, channel.INPUT_HANDLE):
                    self.take_handle(message, fds)
                else:  # to leave, or nobody is left to tell
                    return
        finally:
            self.write_out()

    def _next_message(self) -> tuple[bytes, list[int]]:
        until = clock() + AWAKE
        while clock() < until:
            try:
                return channel.receive(self.end, channel.DONTWAIT)
            except BlockingIOError:
                os.sched_yield()  # to whoever has work to do
        return channel.receive(self.end)

    def model(self) -> Model:
        """What runs calls beside each other here."""
        if self._model is None:
            name, places = self._crowds
            self._model = import_module(f"procoro.worker.models.{name}").Model(self, places)
        return self._model

    def take_handle(self, message: bytes, fds: list[int]) -> None:
        """A handle has come, for the next span."""
        if message[:1] == channel.HANDLE:
            self._arrived.append(handles.arrive(message, fds))
        else:
            self._inputs.append(handles.arrive_for_inputs(message, fds))

    def arriving(self) -> AbstractContextManager[None]:
        """To unpickle the names and the function of the span at hand."""
        arrived, self._arrived = self._arrived, []
        return handles.arriving(arrived)

    def inputs(self) -> list[int]:
        """Keys of the handles that have come for the inputs of the span at hand."""
        inputs, self._inputs = self._inputs, []
        return inputs

    def _count_fork(self) -> None:
        self._forks += 1

    def _run_span(self, message: bytes, fds: list[int]) -> None:
        span = self.unpack(message, fds, calling.as_plain_function)
        number, block, forks = span.number, span.block, self._forks
        began = clock()
        ran = serial.run(self, span)
        seconds = clock() - began
        del span
        # What a call has kept still looks into the block; so does the copy that it has forked.
        left = (block is None or block() is None) and self._forks == forks
        kind = channel.ENDED_AND_LEFT if left else channel.ENDED
        self.say_between(channel.ENDED_HEAD.pack(kind, number, ran, seconds))

    def unpack(self, message: bytes, fds: list[int], adapt: Callable[[Any], Any]) -> Span:
        """Take a span up. `adapt`: makes of the function what is to be called."""
        _, shape, packing, slot, number, count, place, contents = channel.SPAN_HEAD.unpack_from(message)
        self.memory.header[record.TAKEN] = number
        data = memoryview(message)[channel.SPAN_HEAD.size :]
        load: Callable[[Any], Any] | None = None
        block: weakref.ref[mmap] | None = None
        packed: memoryview | None = None
        try:
            with self.arriving():
                self.library.catch_up(contents)  # whatever comes: the handles in them are not sent again
                function: Callable[..., Any] = (
                    calling.carried(adapt) if shape == CARRIED else adapt(self.library.function(place))
                )
            if packing & channel.IN_BLOCK:
                data = blocks.map_received(fds)
                if isinstance(data.obj, mmap):
                    block = weakref.ref(data.obj)
            inputs = unpack_span(packing & ~channel.IN_BLOCK, data, count)
        except BaseException as error:
            add_note(error, "the function could not be unpickled in the worker: it was not called")
            function, inputs = _raiser(error), [None] * count
            shape = ONE
        else:
            if packing & ~channel.IN_BLOCK == channel.EACH:
                load = pickle.loads
            elif packing & ~channel.IN_BLOCK == channel.PARTS:
                load = _call
            elif inputs and type(inputs[0]) in (dict, list):
                packed = data
        self.memory.header[record.LOADED] = number
        return Span(number, slot, shape, inputs, load, calling.caller(function, shape, load), block, packed)

    def _say(self, pieces: list[bytes], fds: Sequence[int] = ()) -> None:
        """Send a message, unless a call has closed our end: its number may be that of a file of the user's by now."""
        try:
            ours = os.path.samestat(os.fstat(self.end.fileno()), self._end_is)
        except OSError:
            ours = False
        if not ours:
            raise OSError(errno.EBADF, "a call has closed its worker's connection to the pool")
        channel.send(self.end, pieces, fds)

    def say_between(self, message: bytes) -> None:
        """Send a message between two calls. If it cannot be sent we leave, and no call is to be charged with that."""
        try:
            self._say([message])
        except OSError:
            if os.getpid() == self.pid:
                self.memory.header[record.TAKEN] = 0  # no call is being run, and none will be
            raise

    def look(self) -> None:
        """Let the parent know that there are new outcomes to read."""
        self.say_between(channel.LOOK)

    def put_block(self, parts: blocks.Parts) -> bytes:
        """Hand a block over before its outcome is recorded, so that whoever reads the record can have it."""
        self.flush()  # a copy ends here: its block would pass for that of the call
        number = next(self._blocks)
        fd = blocks.write_parts([parts])
        try:
            self._say([channel.BLOCK_HEAD.pack(channel.BLOCK, number)], [fd])
        finally:
            os.close(fd)
        return number.to_bytes(8, "little")

    def flush(self) -> None:
        """Write out what calls have printed. A copy that a call has forked leaves here, as a program at its end."""
        self.write_out()
        if os.getpid() != self.pid:
            sys.exit()

    def write_out(self) -> None:
        """Write out what calls have printed."""
        self.printed.clear()  # first: what a thread prints meanwhile is for the next time
        output.write_out(*self.streams)


def _call(load: Callable[[], Any]) -> Any:
    return load()


def _raiser(error: BaseException) -> Callable[[Any], Any]:
    def fail(_: Any) -> Any:
        raise error

    return fail
