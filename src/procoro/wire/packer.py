"""Functions, and values that are no plain scalars, as bytes: in the thread that hands them in."""

from __future__ import annotations

import pickle
import types
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import is_
from typing import Any

from procoro.kernel import importing
from procoro.wire import blocks, handles, twin
from procoro.wire.blocks import BIG, Parts, Spares, Written
from procoro.wire.inputs import Carrying
from procoro.wire.library import Entry, Library, Versions
from procoro.wire.twin import NOTHING

NONE = type(None)
# What may have no state but its name
NAMED = (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType, type)
REMEMBERED = 256  # functions


class Packer:
    """Packs the functions and inputs of one pool, in the thread that hands them in.

    No lock is held: packing runs the user's code, which may itself submit, as may a signal handler meanwhile.
    """

    def __init__(self, library: Library, spares: Spares) -> None:
        self._library = library
        self._twin = twin.Packer()
        self._spares = spares
        self._named: dict[int, tuple[object, Entry]] = {}  # by id: those that are packed by their name
        self._main_functions: dict[int, MainFunction] = {}  # by id
        self._seen: dict[int, Seen] = {}  # by id: those that are packed by their value

    def function(self, function: Callable[..., Any]) -> Entry:
        """The function's entry in the library, as it is now. Raises what pickling raises."""
        known = self._named.get(id(function))
        if known is not None and known[0] is function:
            return known[1]
        named = _by_name(function)
        if named is None:
            return self._library.add_function(*self._pack(function, again=True)[:3])
        entry = self._library.add_function(named)
        if len(self._named) > REMEMBERED:
            self._named.clear()
        self._named[id(function)] = function, entry
        return entry

    def submitted(self, function: Callable[..., Any]) -> Entry | None:
        """The entry of a function that is submitted by itself. None: it is to travel with its call.

        Whatever has a state of its own (a partial, a bound method, an object) travels with each call, and a closure,
        of which there may be a new one for each call, comes into the library when it is submitted again, unchanged.
        """
        key = id(function)
        known = self._named.get(key)
        if known is not None and known[0] is function:
            return known[1]
        of_main = self._main_functions.get(key)
        if of_main is not None and of_main.is_still(function):
            return of_main.entry
        if not isinstance(function, types.FunctionType):
            return None if _by_name(function) is None else self.function(function)
        if "<" in function.__qualname__:  # a lambda, or defined within a function: it has no name to be found by
            return self._resubmitted(function)
        return self._submitted_by_name(function)

    def _submitted_by_name(self, function: types.FunctionType) -> Entry:
        if _by_name(function) is not None:
            return self.function(function)
        packed, versions, found, definitions = self._pack(function, again=False)
        entry = self._library.add_function(packed, versions, found)
        if any(one.name == function.__qualname__ for one in definitions):
            if len(self._main_functions) > REMEMBERED:
                self._main_functions.clear()
            self._main_functions[id(function)] = MainFunction(function, entry, definitions, self._twin)
        return entry

    def _resubmitted(self, function: types.FunctionType) -> Entry | None:
        seen = self._seen.get(id(function))
        if seen is None or not seen.is_still(function):
            if len(self._seen) > REMEMBERED:
                self._seen.clear()
            self._seen[id(function)] = Seen(function, self._seen)
            return None
        if seen.entry is None and seen.is_fixed:
            packed, versions, found, _ = self._pack(function, again=False)
            if len(packed) > BIG:
                return None
            entry = self._library.add_function(packed, versions, found)
            if versions:  # they are to be looked at each time
                return entry
            seen.entry = entry
        return seen.entry

    def _pack(self, value: Any, again: bool) -> tuple[bytes, Versions, list[handles.Handle], list[twin.Known]]:
        """The packed value, the names of `__main__` that it holds, the handles in it, and all that the names need.

        `again`: look whether these have changed in place.
        """
        with handles.collecting() as found:
            data, names = _dumps(value, None)
        packings = self._twin.packings
        definitions = self._twin.definitions(names, again) if names else []
        if self._twin.packings != packings:
            self._main_functions.clear()  # none of them still is what it was; and they hold values
        self._twin.written(self._library.add_definitions(definitions))
        versions = tuple(sorted((one.name, one.version) for one in definitions if one.name in names))
        return data, versions, found, definitions

    def once(self, value: Any) -> tuple[bytes, list[handles.Handle]]:
        """A value in one piece, and the handles in it. Names of `__main__` that it needs go into the library."""
        data, _, found, _ = self._pack(value, again=True)
        return data, found

    def value(self, value: Any) -> bytes | Parts:
        """One input, with large buffers beside it. Names of `__main__` that it needs go into the library."""
        buffers: list[pickle.PickleBuffer] = []
        if not handles.is_collecting():
            try:
                data = pickle.dumps(value, 5, buffer_callback=blocks.large_buffers(buffers))
                if not twin.stands_alone(data):
                    buffers.clear()
                    data, names = twin.dumps_plain(value, blocks.large_buffers(buffers))
                    self._define(names)
                return self._beside(data, buffers) if buffers else data
            except Exception:
                pass  # there is more to it: a handle, a lambda
            buffers.clear()
        with handles.collecting() as found:
            data, names = _dumps(handles.Input(value, found), buffers)
            self._define(names)
        if found:
            return Carrying(data, [bytes(buffer.raw()) for buffer in buffers], found)
        return self._beside(data, buffers) if buffers else data

    def _define(self, names: set[str]) -> None:
        """Names of `__main__` that an input needs go into the library."""
        if names:
            definitions = self._twin.definitions(names, again=False)
            self._twin.written(self._library.add_definitions(definitions))

    def _beside(self, data: bytes, buffers: Sequence[pickle.PickleBuffer]) -> Parts:
        """A pickle and its buffers. The caller may change an array once the call has returned: take its bytes now."""
        raw = [buffer.raw() for buffer in buffers]
        if sum(map(len, raw)) >= blocks.WRITTEN:
            try:
                return Written(Parts(data, raw), self._spares)
            except OSError:
                pass  # there may be room when it is its turn
        return Parts(data, list(map(bytes, raw)))


class MainFunction:
    """A function that stands in `__main__`, and what stood there under the names that it needs when it was packed."""

    __slots__ = ("_function", "_packer", "_packings", "_stood", "entry")

    def __init__(
        self, function: types.FunctionType, entry: Entry, definitions: list[twin.Known], packer: twin.Packer
    ) -> None:
        self._function = function
        self._stood = [(one.name, one.value) for one in definitions]
        absent = set().union(*(twin.absent(value) for _, value in self._stood))
        self._stood += [(name, NOTHING) for name in sorted(absent)]  # it may come, and is to be seen then
        self._packer = packer
        self._packings = packer.packings
        self.entry = entry

    def is_still(self, function: Callable[..., Any]) -> bool:
        """Would it be packed as it was? Nothing has been, meanwhile, and the same objects stand there."""
        if self._function is not function or self._packings != self._packer.packings:
            return False
        main = twin.main_globals()
        for name, value in self._stood:  # noqa: SIM110  a generator takes longer than all the rest
            if main.get(name, NOTHING) is not value:
                return False
        return True


class Seen:
    """A function that was packed by its value, and what that was, as long as it lives."""

    __slots__ = ("_function", "_held", "_names", "entry", "is_fixed")

    def __init__(self, function: types.FunctionType, seen: dict[int, Seen]) -> None:
        key = id(function)
        self._function = weakref.ref(function, lambda _: seen.pop(key, None))
        self._names = [] if function.__globals__ is twin.main_globals() else sorted(twin.names_in(function.__code__))
        self._held = self._all_of(function)
        # Can nothing that it holds change in place? (What it names of `__main__`, the twin looks after.)
        self.is_fixed = not function.__dict__ and all(
            isinstance(value, twin.IMMUTABLE) or _by_name(value) is not None for value in self._held[1:]
        )
        self.entry: Entry | None = None

    def is_still(self, function: types.FunctionType) -> bool:
        """Is it this function, with the code, defaults, cells and globals that it had?"""
        held = self._all_of(function)
        return self._function() is function and len(held) == len(self._held) and all(map(is_, self._held, held))

    def _all_of(self, function: types.FunctionType) -> list[Any]:
        held: list[Any] = [function.__code__, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for cell in function.__closure__ or ():
            try:
                # Not itself, where it calls itself: then it would live as long as this.
                held.append(None if cell.cell_contents is function else cell.cell_contents)
            except ValueError:  # it is empty so far
                held.append(None)
        held += [function.__globals__[name] for name in self._names if name in function.__globals__]
        return held


def _by_name(function: Callable[..., Any]) -> bytes | None:
    """The pickle of what is nothing but a name, outside of `__main__`; None for all else."""
    if not isinstance(function, NAMED) or not isinstance(getattr(function, "__self__", None), (types.ModuleType, NONE)):
        return None
    try:
        data = pickle.dumps(function, 5)
    except Exception:
        return None
    return None if twin.MAIN_MARK in data else data


def _dumps(value: Any, buffers: list[pickle.PickleBuffer] | None) -> tuple[bytes, set[str]]:
    callback = None if buffers is None else blocks.large_buffers(buffers)
    try:
        data = pickle.dumps(value, 5, buffer_callback=callback)
        if twin.stands_alone(data):
            return data, set()
    except Exception:
        pass  # a lambda, say; what cloudpickle cannot pack either is raised below
    if buffers is not None:
        buffers.clear()
    return twin.dumps(value, callback)


def pack_once(value: Any) -> tuple[Parts, list[twin.Definition]]:
    """A value, and all names of `__main__` that it needs, as they are now: for a process that has no library.

    Large buffers are not copied: they are to be sent before the caller can change them.
    """
    buffers: list[pickle.PickleBuffer] = []
    data, names = _dumps(value, buffers)
    definitions = twin.Packer().definitions(names, again=True) if names else []
    for one in definitions:
        for handle in one.handles:
            handles.collect(handle)
    return Parts(data, [buffer.raw() for buffer in buffers]), [(one.name, one.version, one.data) for one in definitions]


def paths(args: Iterable[Any], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The arguments of a call, each behind its path, for `refusal`."""
    return [
        *((f"args[{index}]", value) for index, value in enumerate(args)),
        *((f"kwargs[{name!r}]", value) for name, value in kwargs.items()),
    ]


def refusal(parts: Iterable[tuple[str, Any]]) -> Exception | None:
    """What to say of the first of these values, each behind its path, that cannot be packed; None: all can."""
    for path, value in parts:
        if _fails(value):
            with importing:
                from procoro import errors
                from procoro.wire import refusals

            return errors.NotPicklable(refusals.describe(value, path))
    return None


def _fails(value: Any) -> bool:
    try:
        with handles.collecting():
            twin.Packer().definitions(twin.dumps(value)[1], again=False)
    except Exception:
        return True
    return False
