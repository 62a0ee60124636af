"""Which part of a value cannot travel, by its path, why, and the way out.

The value is pickled once more, by the pickler that is written in Python: what it is in the midst of when it fails
is the path. Only loaded when something has failed.
"""

from __future__ import annotations

import functools
import pickle
import reprlib
import sys
import types
from collections.abc import Iterable
from typing import Any

from cloudpickle import cloudpickle

from procoro.wire import handles, sockets, twin
from procoro.wire.picklers import OfMain

LONGEST = 400  # characters of a path

OF_A_THREAD = "make it in the function or the initializer; procoro has locks that processes share: procoro.{}"
INHERITED = "it is only inherited by a child that is started later; procoro.{} can be sent"
LOCKS = ("Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier")
MEMORY = "it is only inherited by a child that is started later; multiprocessing.shared_memory can be sent"
ASYNC = "make it in the function"
FILE = "pass its path, and open it in the function"
CONNECT = "connect in the function or the initializer"

# What lives in one process: its name in words, and the way out.
WORDS: dict[str, tuple[str, str]] = {
    "_thread.lock": ("a threading.Lock", OF_A_THREAD.format("Lock")),
    "_thread.RLock": ("a threading.RLock", OF_A_THREAD.format("RLock")),
    **{f"threading.{name}": (f"a threading.{name}", OF_A_THREAD.format(name)) for name in LOCKS},
    "threading.Thread": ("a thread", "start it in the function"),
    "threading.local": ("a threading.local", "make it in the function or the initializer"),
    "_thread._local": ("a threading.local", "make it in the function or the initializer"),
    "_thread._localdummy": ("a threading.local", "make it in the function or the initializer"),
    "queue.Queue": ("a queue.Queue", "return the items, or use a procoro.Queue, which processes share"),
    "_queue.SimpleQueue": ("a queue.SimpleQueue", "return the items, or use a procoro.SimpleQueue"),
    **{
        f"multiprocessing.{module}.{name}": (f"a multiprocessing.{name}", INHERITED.format(name))
        for module, names in {"synchronize": LOCKS, "queues": ("Queue", "JoinableQueue", "SimpleQueue")}.items()
        for name in names
    },
    "_multiprocessing.SemLock": ("a multiprocessing lock", INHERITED.format("Lock")),
    "multiprocessing.sharedctypes.SynchronizedBase": ("a multiprocessing.Value or Array", MEMORY),
    "multiprocessing.heap.BufferWrapper": ("memory of multiprocessing", MEMORY),
    "multiprocessing.connection.Connection": ("an end of a multiprocessing.Pipe", INHERITED.format("Pipe")),
    "multiprocessing.process.BaseProcess": ("a multiprocessing.Process", "start it in the function"),
    "multiprocessing.pool.Pool": ("a multiprocessing.Pool", "make it in the function"),
    "io.IOBase": ("an open file", FILE),
    "_io._IOBase": ("an open file", FILE),
    "tempfile._TemporaryFileWrapper": ("an open file", FILE),
    "posix.ScandirIterator": ("an os.scandir", "pass the path, or a list of its entries' paths"),
    "mmap.mmap": ("a mapping of memory", "map the file in the function"),
    "builtins.memoryview": ("a memoryview", "pass bytes(view)"),
    "ssl.SSLSocket": ("an encrypted socket", "pass the address, and connect in the function"),
    "socket.socket": (
        "a socket of a class of its own",
        "pass a plain one, or the address",
    ),
    "ssl.SSLContext": ("an ssl.SSLContext", "make it in the function or the initializer"),
    "select.epoll": ("a select.epoll", "make it in the function"),
    "subprocess.Popen": ("a subprocess", "start it in the function"),
    "sqlite3.Connection": ("a sqlite3.Connection", f"pass the path, and {CONNECT}"),
    "sqlite3.Cursor": ("a sqlite3.Cursor", f"pass the rows; or {CONNECT}"),
    "builtins.generator": ("a generator", "pass a list of its items, or give it to imap as the inputs"),
    "builtins.coroutine": ("a coroutine", "pass the async function and its arguments: a worker runs it to its end"),
    "builtins.async_generator": ("an async generator", "pass the function that makes it, and its arguments"),
    "_asyncio.Future": ("an asyncio.Future", "await it, and pass its result"),
    "_asyncio.Task": ("an asyncio.Task", "await it, and pass its result"),
    "asyncio.futures.Future": ("an asyncio.Future", "await it, and pass its result"),
    "asyncio.events.AbstractEventLoop": ("an event loop", ASYNC),
    **{
        f"asyncio.locks.{name}": (f"an asyncio.{name}", ASYNC)
        for name in ("Lock", "Event", "Condition", "Semaphore", "Barrier")
    },
    "asyncio.queues.Queue": ("an asyncio.Queue", ASYNC),
    "concurrent.futures._base.Future": ("a Future", "pass its result()"),
    "concurrent.futures._base.Executor": ("an executor", "make it in the function"),
    "procoro.pool.Pool": ("a Pool", "make it in the function"),
    "procoro.results.result.Result": ("a Result", "pass its value, get()"),
    "procoro.results.mapresult.MapResult": ("a MapResult", "pass its values, get()"),
    "procoro.results.stream.Stream": ("a stream", "pass a list of its values, or give it to imap as the inputs"),
    "weakref.ReferenceType": ("a weak reference", "pass what it refers to"),
    "weakref.WeakValueDictionary": ("a WeakValueDictionary", "pass a dict"),
    "builtins.traceback": ("a traceback", "pass its text: traceback.format_tb()"),
    "builtins.frame": ("a frame", "pass what is needed of its f_locals"),
    "_contextvars.ContextVar": ("a ContextVar", "pass its value, get()"),
    "_contextvars.Context": ("a Context", "pass the values that are needed of it"),
    "ctypes.CDLL": ("a loaded library", "load it in the function"),
    "logging.Handler": ("a logging.Handler", "pass the logger: its records come back to this process's handlers"),
}


def describe(value: Any, path: str) -> str:
    """Which part of a value cannot be packed, by its path, why, and the way out."""
    why, too_deep = "it cannot be pickled as a whole", False
    try:
        with handles.collecting() as carried:
            _, names = twin.dumps(value)
            twin.Packer().definitions(names, again=False)
        if carried:  # as a result, say
            why = handles.ways_of(carried[0])
    except Exception as error:
        # Not itself: its traceback holds this frame, and all that stands in those above, inputs and their blocks.
        why, too_deep = str(error), isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError)
    try:
        with handles.collecting():
            found = _look(value, path, None, set())
    except RecursionError:
        found = f"{path}: it is nested too deeply for pickle; pass it flat" if too_deep else None
    return found or f"{path}: {_a(value)} cannot travel to another process ({why})"


def _look(value: Any, path: str, defining: str | None, seen: set[str]) -> str | None:
    """What cannot travel of a value, or of the names of `__main__` that it needs; None if nothing is found."""
    tracer = _Tracer(defining)
    try:
        tracer.dump(value)
    except RecursionError:
        if len(tracer.stack) > 50:  # we need more of the stack than C does: where it fails is not where pickle fails
            raise
        return _words(tracer, path, "its pickling raised RecursionError")
    except Exception as error:
        plain = isinstance(error, (pickle.PicklingError, TypeError))
        return _words(tracer, path, str(error) if plain else f"its pickling raised {type(error).__name__}: {error}")
    for name, stack in tracer.names.items():
        if name in seen or name not in twin.main_globals():
            continue
        seen.add(name)
        value = twin.main_globals()[name]
        *_, (who, above) = tracer.places(stack, path)
        found = _look(value, above if who is value else f"{above}, global {name}", name, seen)
        if found is not None:
            return found
    return None


def _words(tracer: _Tracer, path: str, why: str) -> str:
    for one, place in tracer.places(tracer.stack, path):
        known = _known(one)
        if known is not None:
            what, way_out = known
            return f"{_cut(place)}: {what} lives in one process; {way_out}"
    return f"{_cut(place)}: {_a(one)} cannot travel to another process ({why})"


def _known(value: Any) -> tuple[str, str] | None:
    own = type(value)
    if sockets.is_plain(value):
        return None
    for base in own.__mro__:
        words = WORDS.get(f"{base.__module__}.{base.__qualname__}")
        if words is not None:
            what, way_out = words
            if way_out is FILE and isinstance(name := getattr(value, "name", None), str):
                what = f"{what} ({name!r})"
            if own.__module__.partition(".")[0] not in sys.stdlib_module_names | {"builtins", "procoro"}:
                what = f"{_a(value)} is {what}, and"
            return what, way_out
        if base.__dict__.keys() & OWN_PICKLING and base.__module__ not in sys.stdlib_module_names:
            return None
    return None


OWN_PICKLING = frozenset({"__reduce__", "__reduce_ex__", "__getstate__"})


def _a(value: Any) -> str:
    if isinstance(value, (type, types.FunctionType, types.ModuleType)):
        sort = "class" if isinstance(value, type) else type(value).__name__
        return f"the {sort} {getattr(value, '__qualname__', value.__name__)}"
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def _cut(path: str) -> str:
    return path if len(path) <= LONGEST else f"{path[: LONGEST // 2]} ... {path[-LONGEST // 2 :]}"


PythonPickler: Any = pickle._Pickler


class _Tracer(OfMain, PythonPickler):  # type: ignore[misc]
    """Pickles into nothing. When it has failed, `stack` holds what it was in the midst of."""

    dispatch_table = cloudpickle.Pickler.dispatch_table
    _function_reduce = cloudpickle.Pickler._function_reduce
    _function_getnewargs = cloudpickle.Pickler._function_getnewargs

    def __init__(self, defining: str | None) -> None:
        super().__init__(_Nowhere(), 5)
        self.defining = defining
        self.names: dict[str, list[Any]] = {}  # of `__main__`, with what needed each first
        self.stack: list[Any] = []
        self.globals_ref: dict[int, dict[str, Any]] = {}
        self._reduced: dict[int, tuple[Any, Any]] = {}  # by the id of an object: how it is made, its state

    def need(self, name: str) -> None:
        """As in `OfMain`."""
        self.names.setdefault(name, list(self.stack))

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        self.stack.append(obj)
        super().save(obj, save_persistent_id)
        self.stack.pop()  # not when it has failed

    def save_reduce(self, func: Any, args: Any, state: Any = None, *rest: Any, obj: Any = None) -> None:
        self._reduced[id(obj)] = args, state
        super().save_reduce(func, args, state, *rest, obj=obj)

    def places(self, stack: list[Any], path: str) -> list[tuple[Any, str]]:
        """The objects of a stack, from the outermost, each with its path."""
        found = [(stack[0], path)]
        rest = stack[1:]
        while rest:
            step, taken = self._step(found[-1][0], rest)
            path += step
            if taken > len(rest):
                break
            found.append((rest[taken - 1], path))
            rest = rest[taken:]
        return found

    def _step(self, value: Any, rest: list[Any]) -> tuple[str, int]:
        """How one gets from a value to what lies behind it on the stack; how many entries that takes."""
        if isinstance(value, types.FunctionType):
            return _step_of_function(value, rest)
        args, state = self._reduced.get(id(value), (None, None))
        taken, holder = 0, None
        while taken < len(rest) and args is not None:
            child = rest[taken]
            within = isinstance(holder, tuple) and holder is state and isinstance(child, dict)
            made_of = child is args or child is state or within or _same(child, args[1:])
            if not made_of or _attribute(value, child):
                break
            holder, taken = child, taken + 1
        if taken == len(rest):
            return "", taken + 1
        return _name_of(value, holder, rest[taken]), taken + 1


def _same(found: Any, made: tuple[Any, ...]) -> bool:
    return type(found) is tuple and len(found) == len(made) and all(a is b for a, b in zip(found, made, strict=True))


def _name_of(value: Any, holder: Any, child: Any) -> str:
    """The step from a value to one of its parts, which stands in `holder`: its state, or what it is made with."""
    if isinstance(value, dict) and holder is None:
        for key, item in value.items():
            if item is child:
                return f"[{reprlib.repr(key)}]"
        return " (a key)"
    if isinstance(value, (set, frozenset)):
        return " (a member)"
    if holder is None and isinstance(value, Iterable):
        return next((f"[{index}]" for index, item in enumerate(value) if item is child), "[...]")
    if isinstance(value, types.CellType):
        return ""
    if isinstance(holder, dict):
        return next((f".{key}" for key, item in holder.items() if item is child), "")
    if (name := _attribute(value, child)) is not None:
        return f".{name}"
    if isinstance(holder, tuple):
        return next((f".__reduce__()[1][{index}]" for index, item in enumerate(holder) if item is child), "")
    return ""


def _attribute(value: Any, child: Any) -> str | None:
    """By which attribute the standard library's own objects hold a part."""
    if isinstance(value, STANDARD):
        for name in PARTS:
            if getattr(value, name, None) is child:
                return name
    return None


def _step_of_function(function: types.FunctionType, rest: list[Any]) -> tuple[str, int]:
    """A function is made of tuples and dicts, which hold its parts: cells, defaults, globals, attributes."""
    code, cells = function.__code__, function.__closure__ or ()
    defaults, keywords = function.__defaults__ or (), function.__kwdefaults__ or {}
    first_default = code.co_argcount - len(defaults)
    parts = [
        *((f", variable {name}", cell) for name, cell in zip(code.co_freevars, cells, strict=True)),
        *((f", default of {code.co_varnames[first_default + at]}", one) for at, one in enumerate(defaults)),
        *((f", default of {name}", one) for name, one in keywords.items()),
        *((f".{name}", one) for name, one in function.__dict__.items()),
        *((f", global {name}", function.__globals__.get(name)) for name in code.co_names),
    ]
    for at, child in enumerate(rest):
        for step, part in parts:
            if part is child:
                return step, at + 1
    return "", len(rest) + 1


STANDARD: Any = (functools.partial, functools.partialmethod, types.MethodType, property, BaseException)
PARTS = ("func", "args", "keywords", "__self__", "__func__", "fget", "fset", "fdel")


class _Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)
