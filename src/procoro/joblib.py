"""procoro as a backend of joblib, and so of scikit-learn.

>>> from joblib import Parallel, delayed, parallel_config
>>> from procoro.joblib import register_procoro
>>> register_procoro()
>>> with parallel_config(backend="procoro", n_jobs=2):
...     Parallel()(delayed(abs)(x) for x in (-1, 2, -3))
[1, 2, 3]
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from joblib import cpu_count, register_parallel_backend
from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from procoro.executor import Executor
from procoro.results import Result
from procoro.results.result import kill_soon
from procoro.worker.state import set_environment


def register_procoro() -> None:
    """Make `backend="procoro"` known to joblib."""
    register_parallel_backend("procoro", ProcoroBackend)


class ProcoroBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """Batches of calls go to an `Executor`, which is kept from one `Parallel` to the next while they are alike.

    `parallel_config(backend="procoro", ...)` takes the `Executor`'s keywords: `timeout` and `memory_limit` (of a batch
    of calls), `retries`, `max_tasks_per_child`. Large arrays travel in shared memory by themselves, so joblib's own
    `max_nbytes`, `mmap_mode` and `temp_folder` have nothing to do.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._handed_in: weakref.WeakSet[Result[Any]] = weakref.WeakSet()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers `n_jobs` means: -1 all cores, -2 all but one, and so on."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **joblib_options: object) -> int:
        """Have workers; a single job runs in the caller."""
        workers = self.effective_n_jobs(n_jobs)
        if workers == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._executor = _executor(workers, self._prepare_worker_env(workers), self.backend_kwargs)
        # joblib's callback pulls the user's next calls, which may take their time: not in procoro's thread. Ends with
        # its last use: `parallel_config` shares a backend between `Parallel`s, and another may be in the midst.
        self._dispatcher = ThreadPoolExecutor(1, "procoro-joblib")
        return workers

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Result[Any]:
        """Run a batch of calls."""
        future = self._executor.submit(_run, func)
        self._handed_in.add(future)
        if callback is not None:
            future.add_done_callback(partial(_dispatch, self._dispatcher, callback))
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The outcomes of a batch."""
        return out.result()

    def terminate(self) -> None:
        """A `Parallel` is over; the workers wait for the next one."""
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A call has failed: end all others, but not those of who uses the same workers."""
        for future in list(self._handed_in):
            kill_soon(future)  # waiting for each, a second Ctrl-C would leave the others alive
        self.terminate()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)


def _dispatch(dispatcher: ThreadPoolExecutor, callback: Callable[[Any], object], done: Result[Any]) -> None:
    try:
        dispatcher.submit(callback, done)
    except RuntimeError:  # the interpreter goes down, and nobody pulls the next calls any more
        pass


def _run(batch: Callable[[], Any]) -> Any:
    return batch()


_kept: tuple[object, Executor] | None = None
_choosing = threading.Lock()


def _executor(workers: int, environment: dict[str, str], options: dict[str, Any]) -> Executor:
    """The executor that is there, if it is what is wanted; else a new one: who is using the old one goes on with it."""
    global _kept
    wanted = (workers, environment, options)
    with _choosing:
        if _kept is None or _kept[0] != wanted or not _kept[1]._is_open():
            _kept = wanted, Executor(workers, initializer=set_environment, initargs=(environment,), **options)
        return _kept[1]
