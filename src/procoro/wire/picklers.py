"""cloudpickle's pickler, told where the globals of `__main__` are. Loaded when something first needs it: 20 ms."""

from __future__ import annotations

import io
import marshal
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
        if func.__globals__ is not twin.main_globals():
            return reduced
        _, arguments, (state, slots), *_ = reduced
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


def _path(value: Any) -> str | None:
    """The dotted name by which a function or class is found in `__main__`, if it is."""
    if not isinstance(value, (types.FunctionType, type)) or value.__module__ not in twin.MAIN:
        return None
    return value.__qualname__ if twin.find(value.__qualname__) is value else None
