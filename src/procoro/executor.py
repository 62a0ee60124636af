"""`Executor`: a `concurrent.futures.Executor` over a `Pool`, for all that takes one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
from itertools import islice
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from procoro import arguments, exits, machine
from procoro.pool import Pool
from procoro.wire.inputs import ONE, STAR

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from procoro.results import Result, Stream

T = TypeVar("T")
P = ParamSpec("P")


class Executor(futures.Executor):
    """`concurrent.futures.ProcessPoolExecutor`'s methods, on workers whose death harms only their own call.

    Args:
        max_workers: how many workers; None: the cores that this process may use.
        mp_context: taken, so that programs which pass one need no change. Whatever its start method, workers come
            from a clean template process, and need no `if __name__ == "__main__"`.
        initializer: called in every worker before its first call, as `initializer(*initargs)`.
        max_tasks_per_child: calls after which a worker is replaced; None: never.
        model, concurrency, timeout, retries, memory_limit, name: as for `Pool`.

    At exit, a forgotten executor finishes its calls first.

    >>> from procoro import Executor
    >>> with Executor(2) as executor:
    ...     executor.submit(pow, 2, 10).result()
    1024
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        model: str | None = None,
        concurrency: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        memory_limit: int | str | None = None,
        name: str | None = None,
    ) -> None:
        workers = machine.cores() if max_workers is None else arguments.count("max_workers", max_workers, 1)
        if mp_context is not None and not hasattr(mp_context, "get_start_method"):
            raise TypeError(f"mp_context must be a multiprocessing context or None, got {mp_context!r}")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):  # the standard library's words
                raise TypeError("max_tasks_per_child must be an integer")
            max_tasks_per_child = arguments.count("max_tasks_per_child", max_tasks_per_child, 1)
        self._max_workers = workers  # Dask asks for it
        self._pool = Pool(
            workers,
            initializer,
            initargs,
            max_tasks_per_child,
            model=model,
            concurrency=concurrency,
            timeout=timeout,
            retries=retries,
            memory_limit=memory_limit,
            name=name,
        )
        exits.finish(self._pool._conductor)
        self._shut = False

    def __repr__(self) -> str:
        return f"<procoro.Executor over {self._pool!r}>"

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Result[T]:
        """Run `fn(*args, **kwargs)` in a worker; return at once.

        Raises:
            procoro.errors.PoolClosed: after `shutdown`; a RuntimeError.
            procoro.errors.NotPicklable: the function or an argument cannot travel; the message gives its path.
            concurrent.futures.process.BrokenProcessPool: no worker can be kept alive.
        """
        self._check_running()
        try:
            return self._pool.submit(fn, *args, **kwargs)
        except RuntimeError:
            self._check_running()  # another thread may just have shut it down
            raise

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """The values of `fn(*arguments)` for the arguments that `zip(*iterables)` gives, in order.

        Unlike the standard library's, it does not drain a generator at once: at most 4,096 inputs are ahead of the
        consumer, pulled in a thread of its own (as `Pool.imap`), until the executor is shut down.

        Args:
            timeout: seconds from this call on in which each value must have come.
            chunksize: at least so many calls travel together, and more while they are short; None: as learnt.
            buffersize: calls that are ahead of the consumer; inputs are then pulled in the consumer's own thread.

        Raises:
            TimeoutError: from `next`, when a value has not come in time.
        """
        chunksize = arguments.chunksize(chunksize)
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float))):
            raise TypeError(f"timeout must be a number of seconds or None, got {timeout!r}")
        if buffersize is not None and (isinstance(buffersize, bool) or not isinstance(buffersize, int)):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        self._check_running()
        deadline = None if timeout is None else time.monotonic() + timeout
        if buffersize is not None:
            rows = zip(*iterables, strict=False)
            ahead = deque(self._submitted(fn, given) for given in islice(rows, buffersize))
            return self._refilled(fn, rows, ahead, deadline)
        inputs, shape = (iterables[0], ONE) if len(iterables) == 1 else (zip(*iterables, strict=False), STAR)
        if all(type(iterable) in (list, tuple) for iterable in iterables):
            inputs = list(inputs)  # as they are now
        return _values(self._pool._imap(fn, inputs, shape, chunksize, None, None, ordered=True), deadline)

    def _submitted(self, fn: Callable[..., T], given: tuple[Any, ...]) -> Result[T]:
        """What cannot travel fails at its own place."""
        from procoro.errors import NotPicklable
        from procoro.results import Result

        try:
            return self.submit(fn, *given)
        except NotPicklable as error:
            failed: Result[T] = Result()
            failed.set_exception(error)
            return failed

    def _refilled(
        self,
        fn: Callable[..., T],
        rows: Iterator[tuple[Any, ...]],
        ahead: deque[Result[T]],
        deadline: float | None,
    ) -> Generator[T]:
        try:
            while ahead:
                for given in islice(rows, 1):
                    ahead.append(self._submitted(fn, given))
                yield ahead.popleft().result(_left(deadline))
        finally:
            for result in ahead:
                result.cancel()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. The workers leave when all that were handed in have ended.

        Args:
            wait: return when that is so.
            cancel_futures: cancel the calls that have not begun.
        """
        self._shut = True
        self._pool._close(cancel_futures)
        if wait:
            self._pool.join()

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        """As `shutdown`; but a Ctrl-C ends what is running, too, as it does in every child of a terminal."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.kill_workers()
        else:
            self.shutdown()

    def kill_workers(self) -> None:
        """End all calls and workers now (as `ProcessPoolExecutor` has it since 3.14)."""
        self._shut = True
        self._pool.terminate()

    def terminate_workers(self) -> None:
        """As `kill_workers`: a call could hold a softer signal up for ever."""
        self.kill_workers()

    def _is_open(self) -> bool:
        return not self._shut and self._pool._is_open()

    def _check_running(self) -> None:
        if self._shut or self._pool._state in ("CLOSE", "TERMINATE"):
            from procoro import errors

            when = "shutdown" if self._shut else "interpreter shutdown"
            raise errors.PoolClosed(f"cannot schedule new futures after {when}")


def _values(stream: Stream[T], deadline: float | None) -> Generator[T]:
    try:
        while (run := stream._next_values(_left(deadline))) is not None:
            values = list(run)
            values.reverse()
            while values:
                yield values.pop()  # nothing here refers to what has been handed out
    finally:
        stream.close()


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
