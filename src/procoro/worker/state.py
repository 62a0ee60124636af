"""What a fork of the caller would have given a worker: taken there, put on here."""

from __future__ import annotations

import os
import pickle
import resource
import sys
import types
import warnings
from typing import Any

from procoro import kernel

LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
MAIN_NAMES = ("__file__", "__package__", "__doc__")


def capture() -> bytes:
    """The caller's state as it is now."""
    main = sys.modules["__main__"]
    state: dict[str, Any] = {
        "path": list(sys.path),
        "argv": list(sys.argv) if hasattr(sys, "argv") else [],
        "cwd": _cwd(),
        "env": dict(os.environb),
        "umask": kernel.umask(),
        "limits": [(kind, resource.getrlimit(kind)) for kind in set(LIMITS)],
        "main": {name: getattr(main, name, None) for name in MAIN_NAMES},
        "levels": _logging_levels(),
        "authkey": _authkey(),
        "dont_write_bytecode": sys.dont_write_bytecode,
        "recursion": sys.getrecursionlimit(),
    }
    try:
        state["warnings"] = pickle.dumps(warnings.filters)
    except Exception:  # a filter on a class that has no importable name: leave the worker's own
        state["warnings"] = None
    return pickle.dumps(state, 5)


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return None


def _authkey() -> bytes | None:
    """What `multiprocessing`'s managers ask of who connects; only of interest where they are in use."""
    process: Any = sys.modules.get("multiprocessing.process")
    return None if process is None else bytes(process.current_process().authkey)


def _logging_levels() -> dict[str, int] | None:
    logging: Any = sys.modules.get("logging")
    if logging is None:
        return None
    loggers = {"": logging.root, **logging.root.manager.loggerDict}
    return {name: level for name, logger in list(loggers.items()) if (level := getattr(logger, "level", 0))}


def put_on(data: bytes) -> dict[str, int] | None:
    """Take the caller's state over; the levels of its loggers."""
    state = pickle.loads(data)
    sys.path[:] = state["path"]
    sys.argv = state["argv"]
    sys.dont_write_bytecode = state["dont_write_bytecode"]
    sys.setrecursionlimit(state["recursion"])
    if state["cwd"] is not None:
        try:
            os.chdir(state["cwd"])
        except OSError:
            pass
    for name in set(os.environb) - set(state["env"]):
        del os.environb[name]
    for name, value in state["env"].items():
        if os.environb.get(name) != value:
            os.environb[name] = value
    os.umask(state["umask"])
    for kind, limit in state["limits"]:
        if resource.getrlimit(kind) != limit:
            try:
                resource.setrlimit(kind, limit)
            except (OSError, ValueError):
                pass
    main = types.ModuleType("__main__")
    main.__dict__.update(state["main"])
    sys.modules["__main__"] = main
    if state["warnings"] is not None:
        try:
            filters: Any = warnings.filters
            filters[:] = pickle.loads(state["warnings"])
            getattr(warnings, "_filters_mutated", lambda: None)()
        except Exception:
            pass
    if state["authkey"] is not None:
        from multiprocessing import process

        process.current_process().authkey = state["authkey"]
    levels: dict[str, int] | None = state["levels"]
    return levels
