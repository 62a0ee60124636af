"""`__main__` in a worker: one twin module, in which its functions and classes live and share their globals.

What a function of `__main__` names travels with it, name by name, each in a version of its own. A name is set in
the twin when it comes in a version that the twin has not seen; so what an initializer sets is seen by the
calls, and `N = 2`, run again in a notebook, is too. On the way back nothing is defined: an instance of a class of
`__main__` finds the caller's own class.

cloudpickle packs what has no name to be imported by; this module only says where its globals are.
"""

from __future__ import annotations

import io
import marshal
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

Definition = tuple[str, int, bytes]  # a name of `__main__`, its version, its value

IMMUTABLE = (int, float, complex, str, bytes, bool, type(None), types.ModuleType)


def main_globals() -> dict[str, Any]:
    """The globals of `__main__`: in a worker, the twin's."""
    return sys.modules["__main__"].__dict__


class MainGlobals:
    """Stands, in a pickle, for the globals of the receiver's `__main__`."""

    def __reduce__(self) -> tuple[Callable[[], dict[str, Any]], tuple[()]]:
        return main_globals, ()


# ------------------------------------------------------------------------------------- the receiving side

_versions: dict[str, int] = {}
_pending: dict[str, tuple[int, bytes]] = {}


def define(definitions: list[Definition]) -> None:
    """Set these names of the twin, in whatever order they need each other."""
    _pending.update({name: (version, data) for name, version, data in definitions if _versions.get(name) != version})
    while _pending:
        _define(next(iter(_pending)))


def _define(name: str) -> None:
    version, data = _pending.pop(name)
    _versions[name] = version
    main_globals()[name] = pickle.loads(data)


def attribute(path: str) -> Any:
    """What stands under a dotted name in `__main__`."""
    name, *rest = path.split(".")
    if name in _pending:
        _define(name)
    value = main_globals()[name]
    for part in rest:
        value = getattr(value, part)
    return value


# --------------------------------------------------------------------------------------- the sending side


class Packer:
    """Packs what C's pickler cannot, or would pack as a name of `__main__`."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, int, bytes, set[str]]] = {}

    def dumps(
        self, value: object, buffers: Callable[[pickle.PickleBuffer], Any] | None = None
    ) -> tuple[bytes, set[str]]:
        """The packed value, and the names of `__main__` that it needs."""
        return _dumps(value, None, buffers)

    def definitions(self, names: set[str], again: bool) -> list[Definition]:
        """These names and all that they need. `again`: values that can have changed in place are packed anew."""
        found: dict[str, Definition] = {}
        todo = set(names)
        while todo:
            name = todo.pop()
            if name in found or name not in main_globals():
                continue
            value = main_globals()[name]
            known = self._known.get(name)
            if known is None or known[0] is not value or (again and not isinstance(value, IMMUTABLE)):
                known = self._pack(name, value, known)
            found[name] = (name, known[1], known[2])
            todo |= known[3]
        return list(found.values())

    def _pack(
        self, name: str, value: object, known: tuple[object, int, bytes, set[str]] | None
    ) -> tuple[object, int, bytes, set[str]]:
        try:
            data, names = _dumps(value, name, None)
        except Exception as error:
            error.add_note(f"it is the global {name!r} of __main__, which the function names")
            raise
        version = 1 if known is None else known[1] + (data != known[2])
        known = self._known[name] = (value, version, data, names)
        return known


def _dumps(
    value: object, defining: str | None, buffers: Callable[[pickle.PickleBuffer], Any] | None
) -> tuple[bytes, set[str]]:
    file = io.BytesIO()
    pickler = _pickler_class()(file, protocol=5, buffer_callback=buffers)
    pickler.defining = defining
    pickler.names = set()
    pickler.dump(value)
    return file.getvalue(), pickler.names


def _pickler_class() -> Any:
    """Made at first use: cloudpickle costs 20 ms to import, and most pools never need it."""
    global _pickler
    if _pickler is None:
        from cloudpickle import cloudpickle

        class TwinPickler(cloudpickle.Pickler):  # type: ignore[misc]
            defining: str | None
            names: set[str]

            def reducer_override(self, obj: Any) -> Any:
                if isinstance(obj, types.CodeType):
                    # cloudpickle drops the file's name, and tracebacks would teach less. Version 2 of the
                    # format has no references, which would make equal code differ.
                    return marshal.loads, (marshal.dumps(obj, 2),)
                path = _path(obj)
                if path is not None and path.split(".")[0] != self.defining:
                    self.names.add(path.split(".")[0])
                    return attribute, (path,)
                return super().reducer_override(obj)

            def _dynamic_function_reduce(self, func: types.FunctionType) -> Any:
                reduced = super()._dynamic_function_reduce(func)
                if func.__globals__ is not main_globals():
                    return reduced
                make, arguments, (state, slots), *rest = reduced
                self.names.update(slots["__globals__"])
                slots = {**slots, "__globals__": {}}
                return make, (arguments[0], MainGlobals(), *arguments[2:]), (state, slots), *rest

        _pickler = TwinPickler
    return _pickler


_pickler: Any = None


def _path(value: Any) -> str | None:
    """The dotted name by which a function or class is found in `__main__`, if it is."""
    if not isinstance(value, (types.FunctionType, type)) or value.__module__ != "__main__":
        return None
    found: Any = sys.modules["__main__"]
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return value.__qualname__ if found is value else None
