"""`Pool`: `multiprocessing.Pool`'s methods, and what is missing there. Arguments are checked here, once, in words."""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

from procoro import arguments, exits, machine
from procoro.calls import FaultKind
from procoro.engines.template import TemplateProcess
from procoro.functions import is_async, name_of

# By hand, here and in all that a pool needs before its template starts: loading `typing` would put that off by 9 ms.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ParamSpec, Self, TypeVar, overload

    from procoro.conductor.conductor import Conductor, Initializer, Sink
    from procoro.conductor.sources import IteratorSource, SequenceSource, Source, size_of
    from procoro.results.batch import Batch, Kind
    from procoro.results.failures import Context, end_of
    from procoro.results.mapresult import MapResult, Parts
    from procoro.results.outcomes import Raised
    from procoro.results.result import Result
    from procoro.results.stream import Inbox, Stream
    from procoro.results.waiting import call_back
    from procoro.scheduler import messages as m
    from procoro.wire import inputs
    from procoro.wire.handles import Handle
    from procoro.wire.library import Entry
    from procoro.wire.packer import Packer, paths, refusal

    T = TypeVar("T")
    P = ParamSpec("P")
else:

    def overload(function):  # of use to type checkers alone
        return function


def _import_the_rest() -> None:
    """What only a pool needs. Called while its template starts up, these 25 ms cost nothing."""
    global Batch, Conductor, Context, Inbox, IteratorSource, MapResult, Parts, Raised, Result, SequenceSource, Stream
    global call_back, end_of, inputs, m, paths, refusal, size_of
    from procoro.conductor.conductor import Conductor
    from procoro.conductor.sources import IteratorSource, SequenceSource, size_of
    from procoro.results.batch import Batch
    from procoro.results.failures import Context, end_of
    from procoro.results.mapresult import MapResult, Parts
    from procoro.results.outcomes import Raised
    from procoro.results.result import Result
    from procoro.results.stream import Inbox, Stream
    from procoro.results.waiting import call_back
    from procoro.scheduler import messages as m
    from procoro.wire import inputs
    from procoro.wire.packer import paths, refusal


INITIALIZING = 10.0  # seconds that an initializer is given at least, where there is a timeout
GATHERED = 1024  # submits in one batch, which costs the crank 50 µs
SUBMITS = 0  # the lane that all submits of a pool share


class Pool:
    """Worker processes that run calls; what dies in one of them harms only its own call.

    Args:
        processes: how many workers; None: the cores that this process may use.
        initializer: called in every worker before its first call, as `initializer(*initargs)`; None: nothing is.
        maxtasksperchild: calls after which a worker is replaced; None: never.
        model: how a worker runs calls: "serial", one at a time; or many at once, by "threads", by "greenlets" (gevent,
            in workers where all that blocks is patched) or by "asyncio". None: serial, but functions that are
            `async def` run by asyncio.
        concurrency: how many calls a worker runs at once, 1 to 10,000. None: 32 threads, 100 greenlets or tasks.
        timeout: seconds that a call may run before it is ended, with its worker; None: no limit. The initializer
            is held to it, too, but given 10 seconds at least.
        retries: how often a call that failed is run again. 0: no call is ever started twice.
        memory_limit: bytes, or words as "2 GiB", that a worker may hold, looked at every 0.1 s; the call that exceeds
            them is ended. None: no limit.
        name: shown by `repr`.

    Raises:
        ValueError, TypeError: an argument is not what it should be.
        RecursionError: eight pools within each other, as a module has that makes one while it is imported.

    No `if __name__ == "__main__"` is needed, and lambdas and closures work.

    >>> from procoro import Pool
    >>> with Pool(2) as pool:
    ...     pool.map(abs, [-1, -2, 3])
    [1, 2, 3]
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        model: str | None = None,
        concurrency: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        memory_limit: int | str | None = None,
        name: str | None = None,
    ) -> None:
        size = machine.cores() if processes is None else arguments.processes(processes)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if maxtasksperchild is not None:
            maxtasksperchild = arguments.count("maxtasksperchild", maxtasksperchild, 1)
        self._model, places = arguments.model(model, concurrency)
        self._timeout = arguments.seconds("timeout", timeout)
        self._retries = arguments.count("retries", retries, 0)
        self._memory_limit = arguments.nbytes("memory_limit", memory_limit)
        self._name = name
        self._size = size
        self._state = "RUN"
        self._streams = itertools.count(1)
        self._lanes = itertools.count(1)
        self._lock = threading.RLock()  # a signal handler may submit or terminate while its thread submits
        self._holding = False  # is somebody at work under the lock? A signal handler that comes then is, too
        self._gathered: deque[Batch] = deque()
        self._open: Batch | None = None
        given = arguments.row("initargs", initargs)
        template = TemplateProcess.acquire(patched=model == "greenlets")
        if model not in (None, "serial"):
            template.prepare({f"procoro.worker.models.{model}"} | ({"uvloop"} if model == "asyncio" else set()))
        try:
            _import_the_rest()
        except BaseException:
            template.release(None)
            raise
        self._conductor = Conductor(
            template,
            size,
            maxtasksperchild,
            self._memory_limit,
            None if self._timeout is None or initializer is None else max(self._timeout, INITIALIZING),
            _initializer(initializer, given),
            self._model or "asyncio",
            places,
        )
        try:
            # Dropping the pool drops no call: what is left runs to its end, then the workers go.
            self._finalizer = weakref.finalize(self, self._conductor.tell, m.CloseAsked())
            self._finalizer.atexit = False
            exits.pools.add(self)
        except BaseException:  # a Ctrl-C
            self._conductor.tell(m.CloseAsked())
            raise

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        return f"<procoro.Pool{name} state={self._state} processes={self._size}>"

    # ------------------------------------------------------------------------------------- single calls

    @overload
    def submit(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Result[T]: ...

    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Result[T]: ...

    def submit(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Result[Any]:
        """Run `fn(*args, **kwargs)` in a worker; return at once.

        Of a function of `__main__`, a submit sees which objects its globals are, not what has been changed
        inside of a list or dict since it was sent; `map` and `imap` look.

        Raises:
            procoro.errors.PoolClosed: the pool takes no more calls.
            procoro.errors.NotPicklable: the function or an argument cannot travel; the message gives its path.

        >>> with Pool(2) as pool:
        ...     pool.submit(pow, 2, 10).get()
        1024
        """
        if self._state != "RUN" or not self._conductor.takes_calls:
            self._check_running()
        try:
            function = self._conductor.packer.submitted(fn)
        except Exception as error:
            raise self._refused(fn, error) from error
        scalars = not kwargs and function is not None
        for value in args:  # `issuperset(map(type, args))` takes twice as long
            if type(value) not in inputs.SCALARS:
                scalars = False
        packed: Any
        if scalars:
            shape, packed = (inputs.ONE, args[0]) if len(args) == 1 else (inputs.STAR, args)
        else:
            shape, packed = self._pack_arguments(fn, function, args, kwargs)
        kind = (name_of(fn), self._runs_many(fn)) if function is None else function
        batch: Batch | None = None
        try:
            with self._lock:
                # Within a submit, a signal handler's goes to a batch of its own: nothing is half changed for it.
                within, self._holding = self._holding, True
                try:
                    if self._state != "RUN" or not self._conductor.takes_calls:
                        self._check_running()
                    last = self._open
                    if (
                        within
                        or last is None
                        or last.kind != kind
                        or last.context.shape != shape
                        or len(last.results) >= GATHERED
                    ):
                        batch = self._open_batch(fn, kind, shape)
                    else:
                        batch = last
                    index = len(batch.results)
                    result: Result[Any] = Result(batch, index)
                    if len(batch.values) != index:
                        del batch.values[index:]  # that of one which a Ctrl-C has stopped here
                    batch.values.append(packed)
                    batch.results.append(result)
                    if self._state != "RUN" and (batch.taken is None or index >= batch.taken):
                        try:
                            self._check_running()
                        except Exception:  # a handler has ended it in between
                            del batch.values[index:], batch.results[index:]
                            raise
                    if within:  # the handler may wait for it, and keeps our lock from the crank
                        self._open = None
                        self._gathered.remove(batch)
                        batch.announced = True
                        self._open_soon([(batch, batch.take())])
                finally:
                    self._holding = within
        finally:
            # Without the lock: a handler that comes here may wait for a call, and the crank for the lock.
            if batch is not None and not batch.announced:  # also if a handler raised
                self._conductor.gather(SUBMITS, self._fetch)
                batch.announced = True  # a handler may have raised before: then the next submit does it
        return result

    def _open_batch(self, fn: Callable[..., Any], kind: Kind, shape: int) -> Batch:
        """Calls that follow each other and are alike travel together, until the crank comes to fetch them."""
        batch = Batch(self._context(fn, shape, self._timeout, single=True), kind, self._runs_many(fn))
        batch.context.stream = next(self._streams)
        self._open = batch
        self._gathered.append(batch)
        return batch

    def _fetch(self) -> None:
        """In the crank's thread: take what has been submitted."""
        crank = self._conductor.crank
        if not self._lock.acquire(timeout=0.01 if crank.is_here() else -1):
            # Its holder may be in a signal handler that waits for us (a `terminate`): turn on, and come again.
            self._conductor.put_off(self._fetch)
            return
        self._conductor.behind = False
        try:
            gathered = self._take_gathered()
        finally:
            self._lock.release()
        self._open_gathered(gathered)

    def _take_gathered(self) -> list[tuple[Batch, list[Any]]]:
        """For the lock's holder: what has been submitted so far."""
        gathered, self._gathered, self._open = self._gathered, deque(), None
        return [(batch, batch.take()) for batch in gathered]

    def _open_soon(self, gathered: list[tuple[Batch, list[Any]]]) -> None:
        self._conductor.crank.post(lambda: self._open_gathered(gathered))

    def _open_gathered(self, gathered: list[tuple[Batch, list[Any]]]) -> None:
        """In the crank's thread."""
        for batch, values in gathered:
            if not values:  # a Ctrl-C, again
                continue
            stream, shape = batch.context.stream, batch.context.shape
            function, name = (None, batch.kind[0]) if isinstance(batch.kind, tuple) else (batch.kind, "")
            if shape in (inputs.ONE, inputs.STAR):
                items: inputs.Inputs = inputs.PlainInputs(values)
                nbytes = inputs.plain_size(values, shape) or 0
            else:
                items, nbytes = inputs.PackedInputs(values), sum(map(size_of, values))
            opened = m.Opened(
                stream,
                SUBMITS,
                name if function is None else function.place,  # whose run times are learnt
                items=items,
                nbytes=nbytes,
                timeout=self._timeout,
                retries=self._retries,
                many=batch.many,
            )
            self._conductor.open_whole(opened, function, shape, batch)

    @overload
    def apply(
        self,
        func: Callable[..., Coroutine[Any, Any, T]],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
    ) -> T: ...

    @overload
    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None) -> T: ...

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None) -> Any:
        """Run `func(*args, **kwds)` in a worker and wait for its result."""
        return self.submit(func, *arguments.row("args", args), **(kwds or {})).get()

    @overload
    def apply_async(
        self,
        func: Callable[..., Coroutine[Any, Any, T]],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> Result[T]: ...

    @overload
    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> Result[T]: ...

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> Result[Any]:
        """As `submit`. When the call has ended, `callback(value)` or `error_callback(exception)` runs in this process,
        in procoro's thread, before `get` returns: it should be short, and must not wait for a call, not even this."""
        arguments.callback("callback", callback)
        arguments.callback("error_callback", error_callback)
        result = self.submit(func, *arguments.row("args", args), **(kwds or {}))
        if callback is not None or error_callback is not None:

            def tell(outcome: Any) -> None:
                if isinstance(outcome, Raised):
                    call_back(error_callback, outcome.error)
                else:
                    call_back(callback, outcome)

            result._call_first(tell)
        return result

    # ---------------------------------------------------------------------------------------------- maps

    @overload
    def map(
        self, func: Callable[[Any], Coroutine[Any, Any, T]], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[T]: ...

    @overload
    def map(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None) -> list[T]: ...

    def map(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """`[func(x) for x in iterable]`, on all workers. Raises the exception of the first call that failed.

        `chunksize`: at least so many calls travel together, and more while they are short; None: as learnt.
        """
        return self.map_async(func, iterable, chunksize).get()

    @overload
    def starmap(
        self,
        func: Callable[..., Coroutine[Any, Any, T]],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[T]: ...

    @overload
    def starmap(
        self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]: ...

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """As `map`, with `func(*x)`."""
        return self.starmap_async(func, iterable, chunksize).get()

    @overload
    def map_async(
        self,
        func: Callable[[Any], Coroutine[Any, Any, T]],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]: ...

    @overload
    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]: ...

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[Any]:
        """As `map`, but returns at once. The callbacks run as those of `apply_async`."""
        self._check_running()
        return self._map(func, _sequence(iterable), chunksize, callback, error_callback, inputs.ONE)

    @overload
    def starmap_async(
        self,
        func: Callable[..., Coroutine[Any, Any, T]],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]: ...

    @overload
    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]: ...

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[Any]:
        """As `starmap`, but returns at once. The callbacks run as those of `apply_async`."""
        self._check_running()
        values = [arguments.row("each input of starmap", given) for given in _sequence(iterable)]
        return self._map(func, values, chunksize, callback, error_callback, inputs.STAR)

    def _map(
        self,
        func: Callable[..., T],
        values: Sequence[Any],
        chunksize: int | None,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        shape: int,
    ) -> MapResult[T]:
        arguments.callback("callback", callback)
        arguments.callback("error_callback", error_callback)
        context = self._context(func, shape, self._timeout, single=False)
        parts = Parts(context, callback, error_callback)
        self._stream(func, values, context, parts, chunksize, self._retries, window=False, ordered=False)
        return MapResult(parts)

    @overload
    def imap(
        self,
        func: Callable[[Any], Coroutine[Any, Any, T]],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> Stream[T]: ...

    @overload
    def imap(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> Stream[T]: ...

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> Stream[Any]:
        """The values of `func(x)` for each x, in order, as they come: a stream for `for`, `async for` and `next`.

        Inputs are pulled as they are needed: at most 4,096 of them (or twice what may run at once) and 16 MiB (or
        one) are ahead of the consumer, in all streams of the pool together; a stream that finds no room left is still
        granted two inputs a worker, so that it moves. Items of lists, tuples and ranges are counted apart, and there
        may be 16,384 while the consumer keeps up with calls that take microseconds. A generator runs in a thread of
        its own.

        `chunksize`: at least so many calls travel together, and more while they are short; None: as learnt.
        `timeout` and `retries`: as for the pool, whose they replace; None: the pool's.
        """
        return self._imap(func, iterable, inputs.ONE, chunksize, timeout, retries, ordered=True)

    @overload
    def imap_unordered(
        self,
        func: Callable[[Any], Coroutine[Any, Any, T]],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> Stream[T]: ...

    @overload
    def imap_unordered(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> Stream[T]: ...

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> Stream[Any]:
        """As `imap`, with the values as they are done, in any order."""
        return self._imap(func, iterable, inputs.ONE, chunksize, timeout, retries, ordered=False)

    def _imap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Any],
        shape: int,
        chunksize: int | None,
        timeout: float | None,
        retries: int | None,
        ordered: bool,
    ) -> Stream[T]:
        limit = self._timeout if timeout is None else arguments.seconds("timeout", timeout)
        again = self._retries if retries is None else arguments.count("retries", retries, 0)
        arguments.iterable(iterable)
        context = self._context(func, shape, limit, single=False)
        stream: Stream[T] = Stream(Inbox(context))  # first: when a Ctrl-C comes in between, it is dropped, and all ends
        self._stream(func, iterable, context, stream.inbox, chunksize, again, window=True, ordered=ordered)
        return stream

    def _stream(
        self,
        func: Callable[..., Any],
        values: Iterable[Any],
        context: Context,
        sink: Sink,
        chunksize: int | None,
        retries: int,
        *,
        window: bool,
        ordered: bool,
    ) -> None:
        chunksize = arguments.chunksize(chunksize)
        self._check_running()
        arguments.function(func)
        try:
            function = self._conductor.packer.function(func)
        except Exception as error:
            raise self._refused(func, error) from error
        conductor, stream = self._conductor, next(self._streams)
        context.stream = stream

        def supply(items: inputs.Inputs, nbytes: int) -> None:
            conductor.supply(stream, items, nbytes)

        def finish(error: BaseException | None) -> None:
            conductor.finish(stream, error)

        source: Source
        total = _length(values)
        if type(values) in (list, tuple, range) and total is not None:
            source = SequenceSource(values, context.shape, conductor.packer, supply, finish)  # type: ignore[arg-type]
        else:
            source = IteratorSource(values, context.shape, conductor.packer, supply, finish, conductor.crank)
        opened = m.Opened(
            stream,
            next(self._lanes),
            function.place,
            window=window,
            ordered=ordered,
            total=total,
            timeout=context.timeout,
            retries=retries,
            chunk=chunksize,
            many=self._runs_many(func),
        )
        with self._lock:
            within, self._holding = self._holding, True
            try:
                self._check_running()
                conductor.open(opened, function, context.shape, sink, source)
            finally:
                self._holding = within

    # ------------------------------------------------------------------------------------------- the end

    def close(self) -> None:
        """Take no more calls. The workers leave when all that were handed in have ended."""
        self._close(cancel=False)

    def _close(self, cancel: bool) -> None:
        with self._lock:
            if self._state == "RUN":
                self._state = "CLOSE"
            if self._state == "CLOSE":
                # The crank may wait for our lock in vain: a handler may call this in the midst of a submit, and join.
                self._open_soon(self._take_gathered())
                self._conductor.tell(m.CloseAsked(cancel))

    def terminate(self) -> None:
        """End all calls and workers now; calls that had not ended raise `PoolTerminated`. Waits for the workers."""
        if self._state == "FORKED":
            return  # it is the parent's
        self._terminate()
        if not self._conductor.crank.is_here():
            self._conductor.ended.wait()

    def _terminate(self) -> None:
        with self._lock:
            self._state = "TERMINATE"
        self._conductor.tell(m.TerminateAsked())

    def join(self) -> None:
        """Wait until all workers have left. Call `close` or `terminate` first; else a ValueError.

        While somebody joins, streams that nobody consumes are not bounded: the one who waits may be the consumer.
        """
        if self._state == "RUN":
            raise ValueError("Pool is still running")
        if self._state == "FORKED":
            return
        if self._conductor.crank.is_here():
            raise RuntimeError("a callback cannot join its own pool: it would wait for itself")
        self._conductor.tell(m.Unbounded())
        self._conductor.ended.wait()

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.terminate()

    async def __aenter__(self) -> Self:
        self._check_running()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        import asyncio

        if self._state == "FORKED":
            return  # it is the parent's
        self._terminate()
        await asyncio.get_running_loop().run_in_executor(None, self._conductor.ended.wait)

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    # ------------------------------------------------------------------------------------------- helpers

    def _is_open(self) -> bool:
        return self._state == "RUN" and self._conductor.takes_calls

    def _check_running(self) -> None:
        if self._is_open():
            return
        from procoro import errors

        exits.stay(self._conductor)
        if self._state == "FORKED":
            raise errors.PoolClosed("Pool not running: it belongs to the parent process; make one in the forked child")
        over = self._conductor.over
        if over is not None and over.kind == FaultKind.GAVE_UP:
            raise end_of(over, Context(self._conductor, "a call", inputs.ONE, None, None, single=False))
        raise errors.PoolClosed("Pool not running: it was closed or terminated; make a new one")

    def _context(self, func: Callable[..., Any], shape: int, timeout: float | None, single: bool) -> Context:
        return Context(self._conductor, name_of(func), shape, timeout, self._memory_limit, single)

    def _runs_many(self, func: Callable[..., Any]) -> bool:
        """May a worker run several calls of this function at once?"""
        if self._model == "serial":
            return False
        if not is_async(func):
            return self._model is not None
        if self._model == "greenlets":
            raise TypeError(
                f"{name_of(func)} is an async def function, which greenlets cannot run: give it to a pool with "
                'model="asyncio", or with none'
            )
        return True

    def _refused(self, func: Callable[..., Any], error: Exception) -> Exception:
        """A function could not be packed: what to say of it."""
        self._check_running()  # the pool may have ended meanwhile, and its library with it
        return refusal([(f"function {name_of(func)}", func)]) or error  # of a signal handler

    def _pack_arguments(
        self, fn: Callable[..., Any], function: Entry | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[int, Any]:
        """How `fn` is to be called, and with what."""
        if function is None:
            self._check_running()
            arguments.function(fn)
        try:
            value = self._conductor.packer.value
            if function is None:
                return inputs.CARRIED, value((fn, args, kwargs))
            return inputs.FULL, value((args, kwargs))
        except Exception as error:
            self._check_running()
            refused = refusal(
                [
                    *paths(args, kwargs),
                    (f"function {name_of(fn)}", fn if function is None else None),
                    ("arguments", (args, kwargs)),
                ]
            )
            if refused is None:
                raise  # of a signal handler
            raise refused from error


atexit.register(exits.end_all)
os.register_at_fork(after_in_child=exits.forget_in_child)


def _initializer(function: Callable[..., object] | None, given: tuple[Any, ...]) -> Initializer | None:
    if function is None:
        return None

    def pack(packer: Packer) -> tuple[bytes, list[Handle]]:
        try:
            return packer.once((function, given))
        except Exception as error:
            raise refusal([("initializer", function), ("initargs", given)]) or error from error

    return pack


def _length(values: Iterable[Any]) -> int | None:
    """How many these are; None: nobody knows, or there are more than can be counted, as in `range(2**64)`."""
    try:
        return len(values) if isinstance(values, (list, tuple, range)) else None
    except OverflowError:
        return None


def _sequence(iterable: Iterable[Any]) -> Sequence[Any]:
    arguments.iterable(iterable)
    return iterable if isinstance(iterable, (tuple, range)) else list(iterable)
