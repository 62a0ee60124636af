"""The systems: one adapter each, which does what a user of that system would write, and mends nothing.

What a system lacks raises `NotOffered`, and the cell says `n/a`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any, ClassVar

Function = Callable[..., Any]


class NotOffered(Exception):
    """The system has no such feature."""


class Adapter:
    """An open pool. `initializer` runs first in every worker; `timeout` is the limit of each call, in seconds."""

    name: ClassVar[str]
    module: ClassVar[str]

    def __init__(self, workers: int, initializer: Function | None = None, timeout: float | None = None) -> None:
        raise NotImplementedError

    def call(self, function: Function, *arguments: Any) -> Any:
        """One call, waited for."""
        raise NotImplementedError

    def outcomes(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        """All calls handed in at once. Of each its value, or the exception that it ended with."""
        raise NotImplementedError

    def map(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        raise NotImplementedError

    def imap(self, function: Function, inputs: Iterable[Any], length: int) -> Iterator[Any]:
        """Results in order, as they come. `length` is for a system that must be told."""
        raise NotOffered

    def call_back(self, function: Function, argument: Any, callback: Function) -> Any:
        """One call, waited for, whose value also goes to the callback."""
        raise NotOffered

    def leave(self) -> None:
        """What the end of its `with` block does."""
        raise NotImplementedError


class Procoro(Adapter):
    name, module = "procoro", "procoro"

    def __init__(self, workers: int, initializer: Function | None = None, timeout: float | None = None) -> None:
        self.pool = import_module("procoro").Pool(workers, initializer, timeout=timeout)

    def call(self, function: Function, *arguments: Any) -> Any:
        return self.pool.submit(function, *arguments).get()

    def outcomes(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        return [outcome(result.get) for result in [self.pool.submit(function, one) for one in inputs]]

    def map(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        return list(self.pool.map(function, inputs))

    def imap(self, function: Function, inputs: Iterable[Any], length: int) -> Iterator[Any]:
        return iter(self.pool.imap(function, inputs))

    def call_back(self, function: Function, argument: Any, callback: Function) -> Any:
        return self.pool.apply_async(function, (argument,), callback=callback).get()

    def leave(self) -> None:
        self.pool.__exit__(None, None, None)


class StandardPool(Adapter):
    name, module = "mp.Pool", "multiprocessing"

    def __init__(self, workers: int, initializer: Function | None = None, timeout: float | None = None) -> None:
        refuse(timeout)  # that of `get` only ends the waiting
        self.pool = import_module("multiprocessing").Pool(workers, initializer)

    def call(self, function: Function, *arguments: Any) -> Any:
        return self.pool.apply(function, arguments)

    def outcomes(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        return [outcome(result.get) for result in [self.pool.apply_async(function, (one,)) for one in inputs]]

    def map(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        return list(self.pool.map(function, inputs))

    def imap(self, function: Function, inputs: Iterable[Any], length: int) -> Iterator[Any]:
        return iter(self.pool.imap(function, inputs))

    def call_back(self, function: Function, argument: Any, callback: Function) -> Any:
        return self.pool.apply_async(function, (argument,), callback=callback).get()

    def leave(self) -> None:
        self.pool.__exit__(None, None, None)


class StandardExecutor(Adapter):
    name, module = "PPE", "concurrent.futures"

    def __init__(self, workers: int, initializer: Function | None = None, timeout: float | None = None) -> None:
        refuse(timeout)  # that of `result` only ends the waiting
        self.executor = import_module(self.module).ProcessPoolExecutor(workers, initializer=initializer)

    def call(self, function: Function, *arguments: Any) -> Any:
        return self.executor.submit(function, *arguments).result()

    def outcomes(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        futures = [outcome(partial(self.executor.submit, function, one)) for one in inputs]  # a broken one refuses
        return [one if isinstance(one, BaseException) else outcome(one.result) for one in futures]

    def map(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        return list(self.executor.map(function, inputs))

    def imap(self, function: Function, inputs: Iterable[Any], length: int) -> Iterator[Any]:
        return iter(self.executor.map(function, inputs))

    def call_back(self, function: Function, argument: Any, callback: Function) -> Any:
        future = self.executor.submit(function, argument)
        future.add_done_callback(lambda done: callback(done.result()))
        return future.result()

    def leave(self) -> None:
        self.executor.__exit__(None, None, None)


class Loky(StandardExecutor):
    """A plain executor. `get_reusable_executor()` would give a new one after a death, to who asks again."""

    name, module = "loky", "loky"


class Mpire(Adapter):
    name, module = "mpire", "mpire"

    def __init__(self, workers: int, initializer: Function | None = None, timeout: float | None = None) -> None:
        self.pool = import_module("mpire").WorkerPool(n_jobs=workers)
        self.options = {"worker_init": initializer, "task_timeout": timeout}

    def call(self, function: Function, *arguments: Any) -> Any:
        return self.pool.apply(function, arguments, **self.options)

    def outcomes(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        results = [self.pool.apply_async(function, (one,), **self.options) for one in inputs]
        return [outcome(result.get) for result in results]

    def map(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        return list(self.pool.map(function, inputs, **self.options))

    def imap(self, function: Function, inputs: Iterable[Any], length: int) -> Iterator[Any]:
        return iter(self.pool.imap(function, inputs, iterable_len=length, **self.options))

    def call_back(self, function: Function, argument: Any, callback: Function) -> Any:
        return self.pool.apply_async(function, (argument,), callback=callback, **self.options).get()

    def leave(self) -> None:
        self.pool.__exit__(None, None, None)


class Pebble(Adapter):
    name, module = "pebble", "pebble"

    def __init__(self, workers: int, initializer: Function | None = None, timeout: float | None = None) -> None:
        self.pool = import_module("pebble").ProcessPool(max_workers=workers, initializer=initializer)
        self.timeout = timeout

    def call(self, function: Function, *arguments: Any) -> Any:
        return self.pool.schedule(function, arguments, timeout=self.timeout).result()

    def outcomes(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        futures = [self.pool.schedule(function, (one,), timeout=self.timeout) for one in inputs]
        return [outcome(future.result) for future in futures]

    def map(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        return list(self.pool.map(function, inputs).result())

    def imap(self, function: Function, inputs: Iterable[Any], length: int) -> Iterator[Any]:
        return iter(self.pool.map(function, inputs).result())

    def call_back(self, function: Function, argument: Any, callback: Function) -> Any:
        future = self.pool.schedule(function, (argument,), timeout=self.timeout)
        future.add_done_callback(lambda done: callback(done.result()))
        return future.result()

    def leave(self) -> None:
        self.pool.__exit__(None, None, None)


class Joblib(Adapter):
    """`Parallel(...)` anew for each batch of calls, on workers that joblib keeps, so that there is nothing to leave.
    Results as a generator: what came before an error is kept."""

    name, module = "joblib", "joblib"

    def __init__(self, workers: int, initializer: Function | None = None, timeout: float | None = None) -> None:
        self.joblib = import_module("joblib")
        self.options = {"n_jobs": workers, "timeout": timeout, **({"initializer": initializer} if initializer else {})}

    def call(self, function: Function, *arguments: Any) -> Any:
        (value,) = self.joblib.Parallel(**self.options)([self.joblib.delayed(function)(*arguments)])
        return value

    def outcomes(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        found: list[Any] = []
        try:
            found.extend(self.imap(function, inputs, len(inputs)))  # keeps what came before an exception
        except (Exception, SystemExit) as error:
            found += [error] * (len(inputs) - len(found))  # one error ends all that had not been handed out
        return found

    def map(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        return list(self.imap(function, inputs, len(inputs)))

    def imap(self, function: Function, inputs: Iterable[Any], length: int) -> Iterator[Any]:
        parallel = self.joblib.Parallel(**self.options, return_as="generator")
        return iter(parallel(self.joblib.delayed(function)(one) for one in inputs))

    def leave(self) -> None:
        pass


class TrioParallel(Adapter):
    """Calls as tasks of a nursery, killed where they are cancelled. Workers are kept for the whole process, so that
    there is nothing to leave; an initializer needs a context of its own, which lasts as long as the calls."""

    name, module = "trio-parallel", "trio_parallel"

    def __init__(self, workers: int, initializer: Function | None = None, timeout: float | None = None) -> None:
        self.trio, self.parallel = import_module("trio"), import_module("trio_parallel")
        self.workers, self.initializer, self.timeout = workers, initializer, timeout

    def call(self, function: Function, *arguments: Any) -> Any:
        return self.trio.run(self._call, function, *arguments)

    async def _call(self, function: Function, *arguments: Any) -> Any:
        if self.initializer is not None:
            async with self.parallel.open_worker_context(init=self.initializer) as context:
                return await context.run_sync(function, *arguments)
        with self.trio.fail_after(self.timeout) if self.timeout else nullcontext():
            return await self.parallel.run_sync(function, *arguments, kill_on_cancel=True)

    def outcomes(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        found: list[Any] = [None] * len(inputs)

        async def one(place: int, limiter: Any) -> None:
            async with limiter:  # here, not in `run_sync`: to wait for a worker is no part of the call's time
                try:
                    found[place] = await self._call(function, inputs[place])
                except (Exception, SystemExit) as error:
                    found[place] = error

        async def everything() -> None:
            limiter = self.trio.CapacityLimiter(self.workers)
            async with self.trio.open_nursery() as nursery:
                for place in range(len(inputs)):
                    nursery.start_soon(one, place, limiter)

        self.trio.run(everything)
        return found

    def map(self, function: Function, inputs: Sequence[Any]) -> list[Any]:
        found = self.outcomes(function, inputs)
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return found

    def leave(self) -> None:
        pass


SYSTEMS: tuple[type[Adapter], ...] = (
    Procoro,
    StandardPool,
    StandardExecutor,
    Loky,
    Mpire,
    Pebble,
    Joblib,
    TrioParallel,
)


def named(name: str) -> type[Adapter]:
    return next(system for system in SYSTEMS if system.name == name)


def installed(system: type[Adapter]) -> bool:
    return find_spec(system.module) is not None


def version(system: type[Adapter]) -> str:
    """ "" for what comes with Python."""
    try:
        return metadata.version(system.module)
    except metadata.PackageNotFoundError:
        return ""


def refuse(timeout: float | None) -> None:
    if timeout is not None:
        raise NotOffered


def outcome(get: Callable[[], Any]) -> Any:
    """What a call ended with. A KeyboardInterrupt is ours."""
    try:
        return get()
    except (Exception, SystemExit) as error:
        return error
