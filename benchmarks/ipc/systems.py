"""Who takes part, each as a user of it would write. Where `imports` fails, it is left out."""

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

from benchmarks.compare.catalogue import System

Put = Callable[[Any], object]
Get = Callable[[], Any]
fork: Any = multiprocessing.get_context("fork")


class Line:
    """What goes from writers to one reader; both sides are asked for in the process that uses them."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def writer(self) -> Put:
        put: Put = self.queue.put
        return put

    def reader(self) -> Get:
        get: Get = self.queue.get
        return get

    def finish(self) -> None:
        """For a writer that has put its last: before it ends."""


class Ends(Line):
    """The two ends of a pipe."""

    def __init__(self, ends: tuple[Any, Any], *, raw: bool = False) -> None:
        self.here, self.there = ends
        self.raw = raw

    def writer(self) -> Put:
        put: Put = self.there.send_bytes if self.raw else self.there.send
        return put

    def reader(self) -> Get:
        get: Get = self.here.recv_bytes if self.raw else self.here.recv
        return get


class ZeroMQ(Line):
    """A PUSH socket for each writer, a PULL socket for the reader; each side keeps `most` messages at a time."""

    def __init__(self, most: int) -> None:
        self.address = f"ipc://@procoro-bench-{os.urandom(8).hex()}"  # an abstract one: no file is left
        self.most = most

    def writer(self) -> Put:
        import zmq

        self.socket: Any = zmq.Context.instance().socket(zmq.PUSH)
        self.socket.set_hwm(self.most)
        self.socket.connect(self.address)
        put: Put = self.socket.send_pyobj
        return put

    def reader(self) -> Get:
        import zmq

        socket: Any = zmq.Context.instance().socket(zmq.PULL)
        socket.set_hwm(self.most)
        socket.bind(self.address)
        get: Get = socket.recv_pyobj
        return get

    def finish(self) -> None:
        """What it was given last is still with it."""
        import zmq

        self.socket.close(-1)
        zmq.Context.instance().term()


class FasterFifo(Line):
    """Its `get` has a time-out by default; this one waits for ever, as all others do."""

    def __init__(self, nbytes: int) -> None:
        from faster_fifo import Queue

        super().__init__(Queue(nbytes))

    def writer(self) -> Put:
        return lambda item: self.queue.put(item, timeout=1e6)

    def reader(self) -> Get:
        return lambda: self.queue.get(timeout=1e6)


class RawPipe(Line):
    """`os.pipe` with a length before each message, and pickle: the least that plain Python can do. One writer only."""

    def __init__(self) -> None:
        self.ends = os.pipe()

    def writer(self) -> Put:
        import pickle
        import struct

        file = open(self.ends[1], "wb", buffering=0, closefd=False)

        def put(item: Any) -> None:
            body = pickle.dumps(item)
            rest = memoryview(struct.pack("<Q", len(body)) + body)
            while rest:
                rest = rest[file.write(rest) :]

        return put

    def reader(self) -> Get:
        import pickle
        import struct

        file = open(self.ends[0], "rb", closefd=False)
        return lambda: pickle.loads(file.read(struct.unpack("<Q", file.read(8))[0]))


class Iceoryx(Line):
    """Samples in shared memory, pickled; its reader asks again and again, which takes a core."""

    def __init__(self, most: int, nbytes: int) -> None:
        self.name, self.most, self.nbytes = f"bench-{os.urandom(8).hex()}", most, nbytes

    def _service(self) -> Any:
        import ctypes

        import iceoryx2

        iceoryx2.set_log_level(iceoryx2.LogLevel.Fatal)
        self.node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
        service = self.node.service_builder(iceoryx2.ServiceName.new(self.name))
        service = service.publish_subscribe(iceoryx2.Slice[ctypes.c_uint8]).enable_safe_overflow(False)
        return service.subscriber_max_buffer_size(self.most).open_or_create()

    def writer(self) -> Put:
        import ctypes
        import pickle

        from iceoryx2 import BackpressureStrategy

        builder = self._service().publisher_builder().initial_max_slice_len(self.nbytes)
        publisher = builder.backpressure_strategy(BackpressureStrategy.RetryUntilDelivered).create()

        def put(item: Any) -> None:
            body = pickle.dumps(item)
            sample = publisher.loan_slice_uninit(len(body))
            ctypes.memmove(sample.payload_ptr, body, len(body))
            sample.assume_init().send()

        return put

    def reader(self) -> Get:
        import ctypes
        import pickle

        subscriber = self._service().subscriber_builder().create()

        def get() -> Any:
            while (sample := subscriber.receive()) is None:
                pass
            item = pickle.loads(ctypes.string_at(sample.payload_ptr, sample.payload().number_of_elements))
            sample.delete()
            return item

        return get


def _procoro(name: str, *arguments: Any) -> Callable[[], Any]:
    def make() -> Any:
        import procoro

        return getattr(procoro, name)(*arguments)

    return make


def _line(make: Callable[[], Any], kind: Callable[..., Line] = Line, **options: Any) -> Callable[[], Line]:
    return lambda: kind(make(), **options)


OURS = "import procoro; procoro.Queue"
ZMQ = System("pyzmq ipc://", lambda: ZeroMQ(1000), "import zmq", full=True)
FIFO_SMALL = System("faster-fifo", lambda: FasterFifo(1 << 20), "import faster_fifo", full=True)
FIFO_LARGE = System("faster-fifo", lambda: FasterFifo(40 << 20), "import faster_fifo", full=True)
RAW = System("os.pipe", RawPipe, full=True)

QUEUES = (
    System("SimpleQueue", _line(_procoro("SimpleQueue")), OURS),
    System("Queue(1000)", _line(_procoro("Queue", 1000)), OURS),
    System("Queue", _line(_procoro("Queue")), OURS),
    System("mp.SimpleQueue", _line(fork.SimpleQueue)),
    System("mp.Queue(1000)", _line(lambda: fork.Queue(1000))),
    System("mp.Queue", _line(fork.Queue)),
    FIFO_SMALL,
    ZMQ,
)
ICEORYX = System("iceoryx2", lambda: Iceoryx(1000, 1 << 10), "import iceoryx2", full=True)
LINES = (*QUEUES, RAW, ICEORYX)


def large_queues(bound: int) -> tuple[System, ...]:
    """With a bound, so that what waits fits into memory."""
    return (
        System("Queue", _line(_procoro("Queue", bound)), OURS),
        System("mp.Queue", _line(lambda: fork.Queue(bound))),
        FIFO_LARGE,
        System(ZMQ.name, lambda: ZeroMQ(bound), ZMQ.imports, full=True),
        RAW,
        System(ICEORYX.name, lambda: Iceoryx(bound, 9 << 20), ICEORYX.imports, full=True),
    )


PIPES = (
    System("Pipe", _line(_procoro("Pipe"), Ends), OURS),
    System("mp.Pipe", _line(fork.Pipe, Ends)),
)
ONE_WAY_PIPES = (
    System("Pipe", _line(_procoro("Pipe", False), Ends), OURS),
    System("mp.Pipe", _line(lambda: fork.Pipe(False), Ends)),
)
BYTE_PIPES = (
    System("Pipe", _line(_procoro("Pipe", False), Ends, raw=True), OURS),
    System("mp.Pipe", _line(lambda: fork.Pipe(False), Ends, raw=True)),
)
LOCKS = (
    System("Lock", _procoro("Lock"), OURS),
    System("RLock", _procoro("RLock"), OURS),
    System("Semaphore", _procoro("Semaphore"), OURS),
    System("mp.Lock", fork.Lock),
    System("mp.RLock", fork.RLock),
)
BARRIERS = (
    System("Barrier", _procoro("Barrier", 2), OURS),
    System("mp.Barrier", lambda: fork.Barrier(2)),
)
JOINED = (
    System("JoinableQueue", _procoro("JoinableQueue"), OURS),
    System("mp.JoinableQueue", fork.JoinableQueue),
)


def _our_process() -> Any:
    from procoro import Process

    return Process


PROCESSES = (
    System("Process", _our_process, "import procoro; procoro.Process"),
    System("mp fork", lambda: fork.Process),
    System("mp spawn", lambda: multiprocessing.get_context("spawn").Process),
)
OBJECTS = (
    *(System(name, lambda name=name: _procoro(name), OURS) for name in ("Lock", "Event", "Condition", "SimpleQueue")),
    *(System(name, lambda name=name: _procoro(name), OURS) for name in ("Queue", "Pipe")),
    *(System(f"mp.{name}", lambda name=name: getattr(fork, name)) for name in ("Lock", "Event", "Condition")),
    *(System(f"mp.{name}", lambda name=name: getattr(fork, name)) for name in ("SimpleQueue", "Queue", "Pipe")),
)
