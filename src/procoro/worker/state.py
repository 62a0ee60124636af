"""What a fork of the caller would have given a worker: taken there, put on here."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import resource
import sys
import types
import warnings
from typing import Any, ClassVar, TypeAlias

from procoro import kernel
from procoro.wire import twin

TRACKER = "multiprocessing.resource_tracker"
LIMITS = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
MAIN_NAMES = ("__file__", "__package__", "__doc__")
DEEPEST = 8  # pools within each other: more are no plan, but a module that makes a pool and is imported by its workers

depth = 0  # how many pools or processes are above this one: in a worker, one at least

# Who this process is, for `current_process()`
name = "MainProcess"
numbers: tuple[int, ...] = ()  # which child of its parent, and so on up
daemon = False
caller: tuple[str, int] | None = None  # the name and pid of who started it; None for a program's first process


def capture() -> bytes:
    """The caller's state as it is now."""
    main = sys.modules["__main__"]
    state: dict[str, Any] = {
        "path": list(sys.path),
        "argv": list(sys.argv) if hasattr(sys, "argv") else [],
        "cwd": _cwd(),
        "env": os.environb._data.copy(),  # type: ignore[attr-defined]  # through its methods, it takes 20 µs
        "umask": kernel.umask(),
        "limits": [(kind, resource.getrlimit(kind)) for kind in LIMITS],
        "affinity": _affinity(),
        "nice": _nice(),
        "main": {name: vars(main)[name] for name in MAIN_NAMES if name in vars(main)},
        "strays": strays(),
        "depth": depth + 1,
        "caller": (name, os.getpid()),
        "logging": _logging(),
        "authkey": _authkey(),
        "dont_write_bytecode": sys.dont_write_bytecode,
        "recursion": sys.getrecursionlimit(),
        "digits": sys.get_int_max_str_digits(),
        "warnings": _warnings(),
    }
    return pickle.dumps(state, 5)


def _warnings() -> bytes | None:
    """The filters. Their categories by name: a library is not to be imported for the sake of a filter."""
    global _filters
    filters: list[Any] = list(warnings.filters)
    if _filters[0] != filters:
        try:
            named = [
                (action, message, (category.__module__, category.__qualname__), module, line)
                for action, message, category, module, line in filters
            ]
            _filters = filters, pickle.dumps(named)
        except Exception:  # one of somebody's making
            _filters = filters, None
    return _filters[1]


_filters: tuple[list[Any], bytes | None] = [], pickle.dumps([])


class _Category(type):
    """Of a category of warnings whose module has not been imported so far."""

    place: tuple[str, str]

    def __subclasscheck__(cls, subclass: type) -> bool:
        category = _loaded(*cls.place)
        return category is not None and issubclass(subclass, category)


def _category(module: str, name: str) -> type:
    return _loaded(module, name) or _Category(name, (Warning,), {"__module__": module, "place": (module, name)})


def _loaded(module: str, name: str) -> type | None:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None


def strays() -> dict[str, str]:
    """Modules, and their files, that nobody finds by their names: no `sys.path` leads there, or it does no more.

    Those made by `importlib.util`, by pytest's `--import-mode=importlib`, or from a path that was taken away again.
    """
    global _strays
    looked_at = frozenset(sys.modules), tuple(sys.path)
    if _strays[0] != looked_at:
        found: dict[str, str | None] = {}  # its file; None: it can be found
        for name, module in sorted(sys.modules.copy().items()):
            try:
                found[name] = _file_of_stray(name, module, found)
            except Exception:  # anything can stand in sys.modules
                found[name] = None
        _strays = looked_at, {**Strays.files, **{name: file for name, file in found.items() if file}}
    return _strays[1]


_strays: tuple[object, dict[str, str]] = None, {}


def _file_of_stray(name: str, module: Any, found: dict[str, str | None]) -> str | None:
    spec = module.__dict__.get("__spec__")
    if spec is None or spec.name != name:
        return None
    above, _, last = name.rpartition(".")
    if above:
        leads = [] if found.get(above, "") is not None else sys.modules[above].__path__
    else:
        leads = sys.path
    if spec.submodule_search_locations is not None:
        folder, base = os.path.split(next(iter(spec.submodule_search_locations)))
    elif spec.has_location:
        folder, base = os.path.split(spec.origin)
    else:
        return None
    if base.partition(".")[0] == last and (folder in leads or (folder == _cwd() and "" in leads)):
        return None
    return spec.origin if spec.has_location else ""


class Strays:
    """Is asked last for a module: finds the caller's strays by their files."""

    files: ClassVar[dict[str, str]] = {}

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> Any:
        """As in an importer."""
        file = cls.files.get(name)
        if file is None and not any(known.startswith(f"{name}.") for known in cls.files):
            return None
        from importlib import machinery, util

        if file is None:  # a folder without a file of its own, with a stray in it
            return machinery.ModuleSpec(name, None, is_package=True)
        inside = [os.path.dirname(file)] if os.path.basename(file).startswith("__init__.") else None
        return util.spec_from_file_location(name, file, submodule_search_locations=inside)


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return None


def _authkey() -> bytes | None:
    """What `multiprocessing`'s managers ask of who connects; only of interest where they are in use."""
    process: Any = sys.modules.get("multiprocessing.process")
    current = getattr(process, "current_process", None)  # another thread may just be importing it
    return None if current is None else bytes(current().authkey)


def _affinity() -> set[int]:
    """The cores on which the main thread may run."""
    return os.sched_getaffinity(os.getpid())


def _nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, os.getpid())


# The levels of loggers, and whether the root has handlers; None: `logging` has not been imported
Logging: TypeAlias = "tuple[dict[str, int], bool] | None"


def _logging() -> Logging:
    logging: Any = sys.modules.get("logging")
    root: Any = getattr(logging, "root", None)  # another thread may just be importing it
    if root is None:
        return None
    loggers = {"": root, **root.manager.loggerDict}
    levels = {name: level for name, logger in list(loggers.items()) if (level := getattr(logger, "level", 0))}
    return levels, bool(root.handlers)


def put_on(data: bytes) -> Logging:
    """Take the caller's state over; how its loggers are."""
    global name, daemon
    state = pickle.loads(data)
    name, daemon = f"PoolWorker-{os.getpid()}", True
    _put_on_what_is_plain(state)
    return _put_on_the_rest(state)


class Plain(pickle.Unpickler):
    """Unpickles what needs no module."""

    def find_class(self, module: str, name: str, /) -> Any:
        """As in `pickle.Unpickler`."""
        raise pickle.UnpicklingError(f"{module}.{name}")


class Ahead:
    """What the template has put on, once for all that it forks from then on: half a millisecond less for each.

    It is of no consequence to the template itself; whatever is, or needs code of the user's, is left to them.
    """

    data = b""
    state: dict[str, Any] | None = None  # None: they put on all by themselves

    @classmethod
    def put_on(cls, data: bytes) -> None:
        """In the template."""
        cls.data = data
        try:
            cls.state = Plain(io.BytesIO(data)).load()
        except pickle.UnpicklingError:
            cls.state = None
            return
        if cls.state["warnings"] == _warnings():
            cls.state["warnings"] = None
        limits = cls.state["limits"]
        cls.state["limits"] = [(kind, limit) for kind, limit in limits if resource.getrlimit(kind) != limit]
        _put_on_what_is_plain(cls.state)
        if cls.state["authkey"] is not None and "multiprocessing.process" in sys.modules:
            _put_on_authkey(cls.state["authkey"])
            cls.state["authkey"] = None

    @classmethod
    def complete(cls) -> Logging:
        """In a process that was forked then; how the caller's loggers are."""
        return put_on(cls.data) if cls.state is None else _put_on_the_rest(cls.state)


def _put_on_what_is_plain(state: dict[str, Any]) -> None:
    global depth, caller
    depth, caller = state["depth"], state["caller"]
    sys.path[:] = state["path"]
    sys.argv = state["argv"]
    sys.dont_write_bytecode = state["dont_write_bytecode"]
    os.umask(state["umask"])
    for variable in set(os.environb) - set(state["env"]):
        del os.environb[variable]
    for variable, value in state["env"].items():
        if os.environb.get(variable) != value:
            os.environb[variable] = value
    Strays.files = state["strays"]
    if state["strays"] and Strays not in sys.meta_path:
        sys.meta_path.append(Strays)
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins  # C code that imports (as `strptime` does) takes it from the globals
    main.__dict__.update(state["main"])
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    twin.is_here = True


def _put_on_the_rest(state: dict[str, Any]) -> Logging:
    sys.setrecursionlimit(state["recursion"])  # not in the template, which would have to live with it
    sys.set_int_max_str_digits(state["digits"])
    if state["cwd"] is not None:  # nor this: there may be another directory of this name by then
        try:
            os.chdir(state["cwd"])
        except OSError:
            pass
    for kind, limit in state["limits"]:
        if resource.getrlimit(kind) != limit:
            try:
                resource.setrlimit(kind, limit)
            except (OSError, ValueError):
                pass
    try:
        if _affinity() != state["affinity"]:
            os.sched_setaffinity(0, state["affinity"])
        if _nice() != state["nice"]:
            os.setpriority(os.PRIO_PROCESS, 0, state["nice"])
    except OSError:  # its cores have gone offline; or the caller is less nice, by rights that it has given up
        pass
    if state["warnings"] is not None:
        try:
            filters: Any = warnings.filters
            filters[:] = [
                (action, message, _category(*category), module, line)
                for action, message, category, module, line in pickle.loads(state["warnings"])
            ]
            getattr(warnings, "_filters_mutated", lambda: None)()
        except Exception:
            pass
    if state["authkey"] is not None:
        _put_on_authkey(state["authkey"])
    logging: Logging = state["logging"]
    return logging


def set_environment(variables: dict[str, str]) -> None:
    """As an initializer. Here, where nothing is imported: some libraries look at these when they are."""
    os.environ.update(variables)


def tracker() -> list[int]:
    """The descriptor of `multiprocessing`'s tracker, which removes shared memory when this program ends, in a list.

    Whoever is not given it starts one of its own, and all shared memory that it has looked at is gone with it. Empty:
    there is none, and nobody has imported what would need one.
    """
    found: Any = sys.modules.get(TRACKER)
    if found is None or not hasattr(found, "getfd"):  # another thread may just be importing it
        return []
    if "multiprocessing.shared_memory" in sys.modules:
        return [found.getfd()]
    fd = found._resource_tracker._fd
    return [] if fd is None else [fd]


def use_tracker(given: list[int]) -> None:
    """As a process that `multiprocessing` has spawned does. `given`: as `tracker` in the caller."""
    for fd in given:
        from multiprocessing import resource_tracker

        resource_tracker._resource_tracker._fd = fd  # type: ignore[attr-defined]


def _put_on_authkey(key: bytes) -> None:
    from multiprocessing import process

    process.current_process().authkey = key
