"""cloudpickle's pickler, told where the globals of `__main__` are. Loaded when something first needs it: 20 ms."""

from __future__ import annotations

import io
import marshal
import sys
import types
from typing import Any

from cloudpickle import cloudpickle

from procoro.wire import reducers, twin

cloudpickle._PICKLE_BY_VALUE_MODULES.add(twin.MAIN[1])


class OfMain:
    """What is packed as a name of `__main__`, and what in a way of our own; `need` hears of the names."""

    defining: str | None  # the name that is packed itself

    def need(self, name: str) -> None:
        """The value needs this name of `__main__`."""
        raise NotImplementedError

    def reducer_override(self, obj: Any) -> Any:
        """As in `pickle.Pickler`."""
        if isinstance(obj, types.CodeType):
            # cloudpickle drops the file's name, and tracebacks would teach less. Version 2 of the
            # format has no references, which would make equal code differ.
            return marshal.loads, (marshal.dumps(obj, 2),)
        if type(obj) is types.ModuleType and cloudpickle._should_pickle_by_reference(obj):
            return twin.imported, (obj.__name__,)
        path = _path(obj)
        if path is None:
            reduced = reducers.reduce(obj)
            path = reduced if isinstance(reduced, str) else None
        elif path.split(".")[0] == self.defining:
            reduced, path = reducers.reduce(obj), None
        if path is not None:
            name = path.split(".")[0]
            if name != self.defining:
                self.need(name)
                return twin.attribute, (path,)
            reduced = reducers.by_value(obj)
        return cloudpickle.Pickler.reducer_override(self, obj) if reduced is None else reduced

    def _dynamic_function_reduce(self, func: types.FunctionType) -> Any:
        reduced = cloudpickle.Pickler._dynamic_function_reduce(self, func)
        slots = reduced[2][1]
        cells = func.__closure__ or ()
        slots["_cloudpickle_submodules"] = _submodules(
            func.__code__, [*slots["__globals__"].values(), *map(_held, cells)]
        )
        if func.__globals__ is not twin.main_globals():
            return reduced
        _, arguments, (state, _), *_ = reduced
        names = [name for name in slots["__globals__"] if name != self.defining]
        for name in names:
            self.need(name)
        del slots["__globals__"]
        # Made by functions of ours: most calls need no more of cloudpickle, and it costs 20 ms to import there.
        made = arguments[0], twin.MainGlobals(names), *arguments[2:]
        return twin.make_function, made, (state, slots), None, None, twin.set_function_state


class TwinPickler(OfMain, cloudpickle.Pickler):  # type: ignore[misc]
    """Written in C, but for what `OfMain` and cloudpickle add."""

    def __init__(self, file: io.BytesIO, defining: str | None, buffers: Any) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers)
        self.defining = defining
        self.names: set[str] = set()

    def need(self, name: str) -> None:
        """As in `OfMain`."""
        self.names.add(name)


class Submodule:
    """Is imported where it is unpickled. (By its place: what stands there may call itself otherwise.)"""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return twin.import_if_it_can_be, (self.name,)


def _submodules(code: types.CodeType, held: list[object]) -> list[Submodule]:
    """Those that a function finds as attributes of packages: also from a comprehension, where cloudpickle sees none."""
    modules = [one for one in held if isinstance(one, types.ModuleType) and hasattr(one, "__path__")]
    packages = tuple(f"{module.__name__}." for module in modules)
    if not packages:
        return []
    names = twin.names_in(code)
    return [
        Submodule(name)
        for name, module in list(sys.modules.items())
        if name.startswith(packages) and isinstance(module, types.ModuleType)
        if any(names.issuperset(name.removeprefix(package).split(".")) for package in packages)
    ]


def _held(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty so far
        return None


def _path(value: Any) -> str | None:
    """The dotted name by which a function or class is found in `__main__`, if it is."""
    if not isinstance(value, (types.FunctionType, type)) or value.__module__ not in twin.MAIN:
        return None
    return value.__qualname__ if twin.find(value.__qualname__) is value else None
