"""Processes x coroutines: run functions on every core, and lose no call when something dies."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from procoro import errors as errors
    from procoro.errors import WaitTimeout
    from procoro.executor import Executor
    from procoro.greenlets import joinall, sleep, spawn
    from procoro.ipc.events import Barrier, Condition, Event
    from procoro.ipc.joinable import JoinableQueue
    from procoro.ipc.locks import BoundedSemaphore, Lock, RLock, Semaphore
    from procoro.ipc.pipes import Pipe
    from procoro.ipc.queues import Queue, SimpleQueue
    from procoro.machine import cores as cpu_count
    from procoro.pool import Pool
    from procoro.process import Process, active_children, current_process, parent_process
    from procoro.results import MapResult, Result, Stream
    from procoro.server.server import Server, serve

    TimeoutError = WaitTimeout  # noqa: A001

__version__ = "0.1.0"

_HOMES = {
    "Executor": ("procoro.executor", "Executor"),
    "Pool": ("procoro.pool", "Pool"),
    "Server": ("procoro.server.server", "Server"),
    "serve": ("procoro.server.server", "serve"),
    "Result": ("procoro.results", "Result"),
    "MapResult": ("procoro.results", "MapResult"),
    "Stream": ("procoro.results", "Stream"),
    "Process": ("procoro.process", "Process"),
    "active_children": ("procoro.process", "active_children"),
    "current_process": ("procoro.process", "current_process"),
    "parent_process": ("procoro.process", "parent_process"),
    "cpu_count": ("procoro.machine", "cores"),
    "Queue": ("procoro.ipc.queues", "Queue"),
    "JoinableQueue": ("procoro.ipc.joinable", "JoinableQueue"),
    "SimpleQueue": ("procoro.ipc.queues", "SimpleQueue"),
    "Pipe": ("procoro.ipc.pipes", "Pipe"),
    "Lock": ("procoro.ipc.locks", "Lock"),
    "RLock": ("procoro.ipc.locks", "RLock"),
    "Semaphore": ("procoro.ipc.locks", "Semaphore"),
    "BoundedSemaphore": ("procoro.ipc.locks", "BoundedSemaphore"),
    "Event": ("procoro.ipc.events", "Event"),
    "Condition": ("procoro.ipc.events", "Condition"),
    "Barrier": ("procoro.ipc.events", "Barrier"),
    "TimeoutError": ("procoro.errors", "WaitTimeout"),  # as multiprocessing names it
    "spawn": ("procoro.greenlets", "spawn"),
    "joinall": ("procoro.greenlets", "joinall"),
    "sleep": ("procoro.greenlets", "sleep"),
}

# What `import procoro as multiprocessing` finds missing, and the way out
_MISSING = {
    "ThreadPool": 'threads are a model of Pool: Pool(model="threads")',
    "BrokenBarrierError": "it is threading.BrokenBarrierError",
    "Manager": "a procoro Queue, Lock or Pipe can be sent to every worker; for shared dicts and lists use "
    "multiprocessing.Manager(), whose proxies travel, too",
    "Value": "use multiprocessing.shared_memory, guarded by a procoro Lock, or return values from calls",
    "Array": "use multiprocessing.shared_memory; numpy arrays travel to workers and back in shared memory",
    "RawValue": "use multiprocessing.shared_memory",
    "RawArray": "use multiprocessing.shared_memory",
    "shared_memory": "import multiprocessing.shared_memory: it can be used as it is",
    "get_context": "there is one way to start processes: leave it out, and use procoro itself as the context",
    "get_start_method": "there is one way to start processes",
    "set_start_method": "there is one way to start processes: leave it out",
    "get_all_start_methods": "there is one way to start processes",
    "set_executable": "there is one way to start processes: by sys.executable",
    "set_forkserver_preload": "workers import what calls need: leave it out",
    "allow_connection_pickling": "ends of a Pipe travel by themselves: leave it out",
    "connection": "import multiprocessing.connection; its `wait` takes procoro's ends, too",
    "managers": "import multiprocessing.managers: it can be used as it is",
    "queues": "Queue, SimpleQueue and JoinableQueue are here; queue.Empty and queue.Full are in the module queue",
    "reducer": "what cloudpickle packs, travels: leave it out",
    "Client": "import multiprocessing.connection",
    "Listener": "import multiprocessing.connection",
    "AuthenticationError": "import it from multiprocessing",
    "BufferTooShort": "import it from multiprocessing",
    "ProcessError": "import it from multiprocessing",
    "log_to_stderr": "procoro logs by the logger 'procoro'",
    "get_logger": "procoro logs by logging.getLogger('procoro')",
}

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Executor",
    "JoinableQueue",
    "Lock",
    "MapResult",
    "Pipe",
    "Pool",
    "Process",
    "Queue",
    "RLock",
    "Result",
    "Semaphore",
    "Server",
    "SimpleQueue",
    "Stream",
    "active_children",
    "cpu_count",
    "current_process",
    "freeze_support",
    "joinall",
    "parent_process",
    "serve",
    "sleep",
    "spawn",
]


def freeze_support() -> None:
    """As in `multiprocessing`: of no effect but on Windows."""


def __getattr__(name: str) -> object:
    """Public names load when they are first used (PEP 562)."""
    if name == "errors":
        return _module("procoro.errors")
    if name in _HOMES:
        module, attribute = _HOMES[name]
        value: object = getattr(_module(module), attribute)
        globals()[name] = value
        return value
    way_out = _MISSING.get(name, "")
    if not way_out and name[:1].isupper() and hasattr(_module("procoro.errors"), name):
        way_out = f"it is procoro.errors.{name}"
    words = f"module 'procoro' has no attribute {name!r}"
    raise AttributeError(f"{words}: {way_out}" if way_out else words, name=name)


def _module(name: str) -> object:
    import sys

    __import__(name)  # as `importlib` would, which takes a while to be loaded itself
    return sys.modules[name]


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__, "errors"})
