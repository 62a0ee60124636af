"""`__main__` in a worker: one twin module, in which its functions and classes live and share their globals.

What a function of `__main__` names travels with it, name by name, each in a version of its own. A name is set in
the twin when it comes in a version that the twin has not seen; so what an initializer sets is seen by the
calls, and `N = 2`, run again in a notebook, is too. On the way back nothing is defined: an instance of a class of
`__main__` finds the caller's own class.

cloudpickle packs what has no name to be imported by; this module only says where its globals are.
"""

from __future__ import annotations

import copy
import copyreg
import io
import itertools
import os
import pickle
import sys
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any

from procoro.kernel import importing
from procoro.wire import handles

Definition = tuple[str, int, bytes]  # a name of `__main__`, its version, its value

FOREIGN = 0  # the version of a name whose version its sender did not know
DEEPEST = 50  # names that are rebuilt within each other
MAIN = "__main__", "__mp_main__"  # its second name in a child of multiprocessing
# What C's pickler would pack, and the receiver take for something else, or make no use of (see `reducers`)
MAIN_MARK, CONNECTION, ASYNCIO = b"main__", b"multiprocessing.connection", b"asyncio."
STACK_GLOBAL = b"\x93"  # what names a class or function; one search for a byte takes a sixth of those three
IMMUTABLE = (int, float, complex, str, bytes, bool, type(None), types.ModuleType)


is_here = False  # is this process's `__main__` a twin?


def main_globals() -> dict[str, Any]:
    """The globals of `__main__`: in a worker, the twin's."""
    return sys.modules["__main__"].__dict__


class MainGlobals:
    """Stands, in a pickle, for the globals of the receiver's `__main__`; `names`: those that will be looked up."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __reduce__(self) -> tuple[Callable[[list[str]], dict[str, Any]], tuple[list[str]]]:
        return globals_with, (self.names,)


# ------------------------------------------------------------------------------------- the receiving side

_lock = threading.RLock()  # threads may take items in at the same time
_versions: dict[str, int] = {}
_pending: dict[str, tuple[int, bytes]] = {}
_failed: dict[str, BaseException] = {}
_needs: dict[str, list[str]] = {}  # of each name: those that its functions look up
_defining: list[str] = []


def define(definitions: list[Definition]) -> None:
    """Set these names of the twin, in whatever order they need each other.

    A name that cannot be rebuilt is the error of who needs it, not of who comes by: that is raised by `attribute`.
    """
    with _lock:
        _pending.update({name: (version, data) for name, version, data in definitions if lacks(name, version)})
        while _pending:
            _define(next(iter(_pending)))


def supply(definitions: Sequence[tuple[str, bytes]]) -> None:
    """Where `__main__` is a twin, set those of these names that it has not: they came with an item that needs them."""
    if is_here:
        with _lock:
            define([(name, FOREIGN, data) for name, data in definitions if name not in main_globals()])


def lacks(name: str, version: int) -> bool:
    """Has this version of a name not come?"""
    return _versions.get(name) != version


def _define(name: str) -> None:
    version, data = _pending.pop(name)
    _versions[name] = version
    _needs[name] = []
    _failed.pop(name, None)
    _defining.append(name)
    try:
        main_globals()[name] = pickle.loads(data)
    except BaseException as error:
        _failed[name] = error
    finally:
        _defining.pop()


def globals_with(names: list[str]) -> dict[str, Any]:
    """The globals of `__main__`, for a function that looks up these. Raises what rebuilding one of them raised."""
    with _lock:
        for name in names:
            # What is rebuilt may call it at once: a `__setstate__`. But functions may need each other in a long chain.
            if name in _pending and len(_defining) < DEEPEST:
                _define(name)
        _check(names)
    return main_globals()


def attribute(path: str) -> Any:
    """What stands under a dotted name in `__main__`. Raises what its rebuilding raised."""
    name, *rest = path.split(".")
    with _lock:
        if name in _pending:
            _define(name)
        if name in _failed:
            raise _failed[name]
        _check([name])
    if name not in main_globals():
        raise AttributeError(f"there is no {name!r} in the `__main__` of this process")
    value = main_globals()[name]
    for part in rest:
        value = getattr(value, part)
    return value


def _check(names: list[str]) -> None:
    """Raise what rebuilding one of these, or of those that they need, has raised."""
    if _defining:  # some may still come
        _needs[_defining[-1]] += names
        return
    if not _failed:
        return
    todo, seen = list(names), set(names)
    while todo:
        name = todo.pop()
        if name in _failed:
            raise _failed[name]
        new = set(_needs.get(name, ())) - seen
        seen |= new
        todo += new


def stands_alone(data: bytes) -> bool:
    """Is this pickle the same to all processes? One that names what is of `__main__`, or of one process, may not be."""
    return data.find(STACK_GLOBAL) < 0 or not (MAIN_MARK in data or CONNECTION in data or ASYNCIO in data)


def imported(name: str) -> types.ModuleType:
    """A module that can be imported."""
    __import__(name)
    return sys.modules[name]


def import_if_it_can_be(name: str) -> None:
    """A module that a function seems to use. If it does, and this has failed, what it looks up there says so."""
    try:
        __import__(name)
    except (Exception, SystemExit):
        pass


def make_function(*parts: Any) -> types.FunctionType:
    """A function of `__main__`, whose state is still to be set: it may refer to the function."""
    return types.FunctionType(*parts)


def set_function_state(function: types.FunctionType, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Its attributes and cells, as cloudpickle has taken them down."""
    attributes, slots = state
    function.__dict__.update(attributes)
    del slots["_cloudpickle_submodules"]  # they have been imported
    for cell, there in zip(function.__closure__ or (), slots.pop("__closure__") or (), strict=True):
        try:
            cell.cell_contents = there.cell_contents
        except ValueError:  # it is empty so far
            pass
    for name, value in slots.items():
        setattr(function, name, value)


def _in_child() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_in_child)


# --------------------------------------------------------------------------------------- the sending side

_numbers = itertools.count(1)  # of versions


def names_in(code: types.CodeType) -> set[str]:
    """All that this code, and the code within it, may look up by name."""
    inner = [names_in(part) for part in code.co_consts if isinstance(part, types.CodeType)]
    return set(code.co_names).union(*inner)


def absent(value: object) -> set[str]:
    """The names that a function of `__main__` may look up, and that are not there."""
    if not isinstance(value, types.FunctionType) or value.__globals__ is not main_globals():
        return set()
    return names_in(value.__code__).difference(value.__globals__)


NOTHING = object()  # what stands under a name that is not there


class Known:
    """A name of `__main__`, packed."""

    __slots__ = ("absent", "data", "handles", "mark", "name", "names", "value", "version")

    def __init__(
        self, name: str, value: object, version: int, data: bytes, names: set[str], found: list[handles.Handle]
    ) -> None:
        self.name = name
        self.value = value
        self.version = version
        self.data = data
        self.mark = _mark(data)
        self.names = names  # those that it needs,
        self.absent = absent(value)  # and those that it would look up, were they there
        self.handles = found  # in it

    def written(self) -> Known:
        """The same, when it has been written where it is needed."""
        known = copy.copy(self)
        known.data = b""
        return known

    def gone(self) -> Known:
        """The same, when another value stands there by now, or none: if one comes that is packed alike, it is this."""
        known = self.written()
        known.value, known.names, known.handles = NOTHING, set(), []
        return known


def _mark(data: bytes) -> tuple[int, int]:
    return len(data), hash(data)


class Packer:
    """Packs names of `__main__`, each in a version of its own, with all that they need.

    Holds no lock: packing runs the user's code, which may submit, and so may a signal handler meanwhile. Two threads
    that pack one name at the same time give it two versions, and it travels twice.
    """

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._drawn: dict[str, int] = {}  # the last number that was drawn for each
        self.packings = 0  # of names, ever

    def definitions(self, names: set[str], again: bool, lenient: bool = False) -> list[Known]:
        """These names and all that they need. `again`: values that can have changed in place are packed anew.

        `lenient`: what cannot be packed is left out.
        """
        found: dict[str, Known] = {}
        todo = set(names)
        while todo:
            name = todo.pop()
            value = main_globals().get(name, NOTHING)
            if name in found or value is NOTHING:
                continue
            known = self._known.get(name)
            old = known is None or known.value is not value or not known.absent.isdisjoint(main_globals())
            if known is None or old or (again and not isinstance(value, IMMUTABLE)):
                try:
                    known = self._pack(name)
                except Exception:
                    if not lenient:
                        raise
                    continue
                if known is None:  # it has just been deleted
                    continue
            found[name] = known
            todo |= known.names
        for name, known in list(self._known.items()):
            if main_globals().get(name, NOTHING) is not known.value and self._known.get(name) is known:
                self._known[name] = known.gone()
        return list(found.values())

    def written(self, definitions: list[Known]) -> None:
        """These have been written where they are needed: their bytes need not be kept."""
        for one in definitions:
            if one.data and self._known.get(one.name) is one:
                self._known[one.name] = one.written()

    def keep_code(self) -> None:
        """Keep no values alive but functions, classes, and what cannot change."""
        for name, known in list(self._known.items()):
            if not isinstance(known.value, (types.FunctionType, type, *IMMUTABLE)):
                self._known.pop(name, None)  # another thread may have been here

    def _pack(self, name: str) -> Known | None:
        self.packings += 1
        version = next(_numbers)  # first: of two threads, the one with the higher number has read the later value
        value = main_globals().get(name, NOTHING)
        if value is NOTHING:
            return None
        last, self._drawn[name] = self._drawn.get(name), version
        with handles.collecting() as found:
            data, names = _dumps_global(name, value)
        before = self._known.get(name)
        if before is not None and before.mark == _mark(data) and before.version == last:  # nobody has come between
            version = self._drawn[name] = last
        known = Known(name, value, version, data, names, found)
        before = self._known.get(name)
        if before is None or before.version <= version:
            self._known[name] = known
        return known


def _dumps_global(name: str, value: object) -> tuple[bytes, set[str]]:
    try:
        return dumps(value, defining=name)
    except Exception:
        from procoro.wire.reducers import by_place

        place = by_place(value)  # a lock or a context variable, say, that `__main__` has from a module
        if place is None:
            raise
        return dumps(Placed(*place[1]))


class Placed:
    """Stands for what a module has under a name."""

    def __init__(self, module: types.ModuleType, name: str) -> None:
        self._place = module, name

    def __reduce__(self) -> Any:
        return getattr, self._place


def dumps(
    value: object, buffers: Callable[[pickle.PickleBuffer], Any] | None = None, defining: str | None = None
) -> tuple[bytes, set[str]]:
    """The packed value, and the names of `__main__` that it needs. `defining`: the name that it is the value of."""
    with importing:
        from procoro.wire.picklers import TwinPickler  # cloudpickle costs 20 ms, and most pools never need it

    file = io.BytesIO()
    pickler = TwinPickler(file, defining, buffers)
    pickler.dump(value)
    return file.getvalue(), pickler.names


USUAL: Any = (object.__reduce_ex__, object.__reduce__)
# Modules whose objects C's pickler packs as cloudpickle would: no function of the user's, and no handle, is in them
PLAIN = frozenset({"datetime", "decimal", "uuid", "fractions", "collections", "numpy", "zoneinfo"})


class NotPlain(Exception):
    """It takes more than `PlainPickler` to pack it."""


class PlainPickler(pickle.Pickler):
    """Packs data and instances of classes of `__main__`, as `dumps` does, at a tenth of its cost, and nothing else."""

    def __init__(self, file: io.BytesIO, buffers: Callable[[pickle.PickleBuffer], Any] | None) -> None:
        super().__init__(file, 5, buffer_callback=buffers)
        self.names: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        """As in `pickle.Pickler`."""
        kind = type(obj)
        if kind is type or kind is types.FunctionType or isinstance(obj, type):
            if obj is attribute or obj.__module__ in PLAIN:
                return NotImplemented
            if obj.__module__ not in MAIN or find(obj.__qualname__) is not obj:
                raise NotPlain
            self.names.add(obj.__qualname__.partition(".")[0])
            return attribute, (obj.__qualname__,)
        if kind.__module__ in PLAIN or kind is types.BuiltinFunctionType:
            return NotImplemented
        if kind.__module__ not in MAIN or kind in copyreg.dispatch_table:
            raise NotPlain
        if (kind.__reduce_ex__, kind.__reduce__) != USUAL:
            raise NotPlain
        return NotImplemented


def find(path: str) -> Any:
    """What stands under a dotted name in `__main__`; None if nothing does."""
    found: Any = sys.modules["__main__"]
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def dumps_plain(value: object, buffers: Callable[[pickle.PickleBuffer], Any] | None = None) -> tuple[bytes, set[str]]:
    """As `dumps`. Raises whatever, `NotPlain` above all, if there is more to it."""
    file = io.BytesIO()
    pickler = PlainPickler(file, buffers)
    pickler.dump(value)
    return file.getvalue(), pickler.names
