"""How to rebuild what cloudpickle rebuilds wrongly, or not at all.

cloudpickle makes a class without its slots, by running its metaclass and `__init_subclass__` again, and an enum
without what `__init__` and `__new__` gave to its members; it sends an open file's text in place of the file. Loaded
together with cloudpickle, when something first needs it.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import io
import pickle
import sys
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

from cloudpickle import cloudpickle

from procoro.wire import sockets, twin

HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, not by C

# What an enum gives its members and itself when it is made; the rest is set afterwards.
OF_A_MEMBER = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_", "_inverted_"})
OF_AN_ENUM = frozenset(
    {"_generate_next_value_", "_member_names_", "_member_map_", "_member_type_", "_value2member_map_", "__new__"}
    | {"_unhashable_values_", "_unhashable_values_map_", "_hashable_values_", "_inverted_"}
)

# What `__main__` has imported of a module by name, where a copy would be another thing: `random.random`, for one, is
# the method of an object that nobody sees, and workers with copies of it would all draw the same numbers.
METHODS = (types.MethodType, types.BuiltinMethodType)
ONE_OF_ITS_KIND = frozenset(
    {"builtins.object", "os._Environ"}
    | {f"dataclasses.{name}" for name in ("_MISSING_TYPE", "_KW_ONLY_TYPE", "_HAS_DEFAULT_FACTORY_CLASS")}
)

# These would arrive, and be of no use: what they stand for stays behind.
LEFT_BEHIND = frozenset(
    {"multiprocessing.connection.Connection", "ctypes.CDLL", "ctypes.PyDLL"}
    | {f"asyncio.locks.{name}" for name in ("Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier")}
    | {f"asyncio.queues.{name}" for name in ("Queue", "PriorityQueue", "LifoQueue")}
)


def reduce(obj: Any) -> Any:
    """How to pack this; a string, if it is found by that name in `__main__`; None: cloudpickle knows."""
    kind: Any = type(obj)
    if issubclass(kind, type):
        return _class(obj)
    if kind is types.FunctionType:
        return None
    for name in ("stdout", "stderr"):
        if obj is getattr(sys, name, None):
            return getattr, (sys, name)  # the worker's own
    if sockets.is_plain(obj):
        return sockets.reduce(obj)
    reducer = REDUCERS.get(kind)
    if reducer is not None:
        return reducer(obj)
    if kind in METHODS and _is_of_a_hidden_object(obj):
        return by_place(obj, obj.__name__)
    if f"{kind.__module__}.{kind.__qualname__}" in ONE_OF_ITS_KIND:
        return by_place(obj)
    if f"{kind.__module__}.{kind.__qualname__}" in LEFT_BEHIND:
        raise pickle.PicklingError(f"a {kind.__name__} lives in one process")
    if isinstance(obj, enum.Enum) and kind.__reduce_ex__ is enum.Enum.__reduce_ex__:
        # By name: a value may be a function, which no copy is equal to.
        return (getattr, (kind, obj.name)) if kind.__members__.get(obj.name) is obj else None
    if kind.__module__ != "__main__" or kind.__reduce__ is object.__reduce__ or kind in copyreg.dispatch_table:
        return None
    reduced = obj.__reduce_ex__(5)
    if isinstance(reduced, str) and twin.find(reduced) is not obj:
        return by_value(obj)
    return reduced


def _is_of_a_hidden_object(method: Any) -> bool:
    of = method.__self__
    return not (isinstance(of, (types.ModuleType, type, types.NoneType)) or type(of).__module__ in twin.MAIN)


def by_place(obj: Any, name: str | None = None) -> Any:
    """How to find what stands in a module; None: it does not. `name`: it is looked for under that alone.

    Not in `builtins`, where an interactive session keeps the last value that it has shown.
    """
    elsewhere = {*twin.MAIN, "builtins"}
    for module in list(sys.modules.values()):
        if type(module) is not types.ModuleType or module.__name__ in elsewhere or module.__spec__ is None:
            continue
        names = vars(module)
        found = [name] if name is not None else [one for one, value in list(names.items()) if value is obj]
        if found and names.get(found[0]) is obj:
            return getattr, (module, found[0])
    return None


def by_value(obj: Any) -> Any:
    """How to make an object that is otherwise found by its name, where that name is to be defined."""
    if type(obj) is LRU_CACHE:
        return _cached, (obj.cache_parameters(), obj.__wrapped__)
    if type(obj) in OF_TYPING:
        return _make_of_typing, (type(obj), *_parts(obj))
    return copyreg.__newobj__, (type(obj),), getattr(obj, "__dict__", None)  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------------------- classes


def _class(cls: Any) -> Any:
    """A class that cannot be imported: its namespace is filled after it was made, since that may refer to the class."""
    if cls in BUILT_IN or cloudpickle._should_pickle_by_reference(cls):
        return None
    if not cls.__flags__ & HEAP_TYPE:
        raise pickle.PicklingError(f"the class {cls.__qualname__!r} has no name by which it could be imported")
    if isinstance(cls, enum.EnumType):
        return _enum(cls)
    if isinstance(cls, TYPED_DICT):
        return None
    _, arguments, (state, slots), _, _, finish = cloudpickle._dynamic_class_reduce(cls)
    kind, name, _, body, *rest = arguments
    body = {**body, "__qualname__": cls.__qualname__}
    if "__orig_bases__" in cls.__dict__:
        body["__orig_bases__"] = state.pop("__orig_bases__")
    if "__slots__" in cls.__dict__:
        names = state.pop("__slots__")
        names = names if isinstance(names, (str, dict)) else tuple(names)
        state = {key: value for key, value in state.items() if not _is_slot_of(value, cls)}
        body["__slots__"] = names
    return _make_class, (kind, name, cls.__bases__, body, *rest), (state, slots), None, None, finish


def _is_slot_of(value: object, cls: type) -> bool:
    return isinstance(value, types.MemberDescriptorType) and value.__objclass__ is cls


def _make_class(kind: Any, name: str, bases: tuple[type, ...], body: dict[str, Any], tracker: str, _: object) -> Any:
    """An empty class. Its own metaclass and `__init_subclass__` have done their work where it was defined."""
    known = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker)
    if known is not None:
        return known
    body = {sys.intern(key): value for key, value in body.items()}
    meta = next(one for one in kind.__mro__ if one is type or cloudpickle._should_pickle_by_reference(one))
    announces = any(map(_announces, bases))
    if meta is kind and not announces:
        made = types.new_class(name, bases, {"metaclass": kind}, lambda namespace: namespace.update(body))
        return cloudpickle._lookup_class_or_track(tracker, made)
    for before in ((_QuietAndSlotted,), (_Quiet,), ()):
        try:
            made = meta.__new__(kind, name, (*before, *bases) if announces else bases, dict(body))
            if announces:
                made.__bases__ = bases
            break
        except TypeError:  # they differ in what their instances hold
            if not before:
                raise
    return cloudpickle._lookup_class_or_track(tracker, made)


def _announces(base: type) -> bool:
    """Has it, or one of its bases, an `__init_subclass__` that cannot be imported?"""
    return any(
        "__init_subclass__" in one.__dict__ and not cloudpickle._should_pickle_by_reference(one) for one in base.__mro__
    )


class _Quiet:
    """Stands before the bases while a class is made, so that its `__init_subclass__` is not run again."""

    def __init_subclass__(cls, **_: object) -> None:
        pass


class _QuietAndSlotted:
    __slots__ = ()

    def __init_subclass__(cls, **_: object) -> None:
        pass


def _enum(cls: Any) -> Any:
    """Its members are made of their bare values; what else they hold is set afterwards."""
    given = getattr(cls._member_type_, "__getnewargs__", None)
    members = [(name, one._value_, given(one) if given else None) for name, one in cls.__members__.items()]
    held = [
        (name, {key: value for key, value in one.__dict__.items() if key not in OF_A_MEMBER})
        for name, one in cls.__members__.items()
        if hasattr(one, "__dict__")
    ]
    state, slots = cloudpickle._class_getstate(cls)
    state = {name: value for name, value in state.items() if name not in OF_AN_ENUM and name not in cls.__members__}
    boundary = getattr(cls, "_boundary_", None)
    tracker = cloudpickle._get_or_create_tracker_id(cls)
    arguments = cls.__bases__, cls.__name__, cls.__qualname__, cls.__module__, members, boundary, tracker
    return _make_enum, arguments, ((state, slots), held), None, None, _finish_enum


def _make_enum(
    bases: tuple[type, ...],
    name: str,
    qualname: str,
    module: str,
    members: list[tuple[str, Any, tuple[Any, ...] | None]],
    boundary: Any,
    tracker: str,
) -> Any:
    known = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker)
    if known is not None:
        return known
    meta: Any = type(bases[-1])
    bare = iter(members)

    def make(cls: Any, *ignored: object) -> Any:
        _, value, given = next(bare)
        made: Any = object.__new__(cls) if given is None else cls._member_type_.__new__(cls, *given)
        made._value_ = value
        return made

    body = meta.__prepare__(name, bases)
    body.update({"__new__": make, "__init__": _nothing, "__module__": module, "__qualname__": qualname})
    for member, value, _ in members:
        body[member] = enum.member(value)  # also a function
    made = meta.__new__(meta, name, bases, body, **({} if boundary is None else {"boundary": boundary}))
    del made.__init__, made.__new_member__
    return cloudpickle._lookup_class_or_track(tracker, made)


def _nothing(self: object, *_: object) -> None:
    """In place of a member's `__init__`."""


def _finish_enum(cls: Any, state: Any) -> Any:
    of_class, held = state
    cloudpickle._class_setstate(cls, of_class)
    for name, values in held:
        cls.__members__[name].__dict__.update(values)
    return cls


# -------------------------------------------------------------------------------------- the standard library


def _cached(parameters: dict[str, Any], function: Callable[..., Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _named(found: Any) -> Any:
    """By its name if it is found by that. All that its `__reduce__` says is a name, which may say nothing elsewhere."""
    name: str = getattr(found, "__qualname__", found.__name__)
    if found.__module__ in twin.MAIN:
        return name if twin.find(name) is found else by_value(found)
    return by_value(found) if cloudpickle._lookup_module_and_qualname(found, name) is None else None


def _cached_property(found: Any) -> Any:
    """Before Python 3.12 it holds a lock."""
    return functools.cached_property, (found.func,), {"attrname": found.attrname}, None, None, _set_attributes


def _set_attributes(obj: Any, values: dict[str, Any]) -> None:
    obj.__dict__.update(values)


def _parts(found: Any) -> tuple[str, tuple[Any, ...]]:
    """Its module, and what it is made of. (What only type checkers look at, bounds say, stays behind.)"""
    name: str = getattr(found, "__qualname__", found.__name__)
    if type(found) is typing.NewType:
        return found.__module__, (name, found.__supertype__)
    return found.__module__, (name, found.__value__) if type(found) is ALIAS else (name,)


def _make_of_typing(kind: Any, module: str, parts: tuple[Any, ...]) -> Any:
    # It takes its module from the globals of who makes it.
    return eval("kind(*parts)", {"__name__": module, "kind": kind, "parts": parts})


def _weak_dict(found: Any) -> Any:
    return type(found), (dict(found),)


def _text_file(file: Any) -> Any:
    raise pickle.PicklingError("an open file lives in one process")


def _memoryview(view: Any) -> Any:
    raise pickle.PicklingError("a memoryview looks into the memory of one process")


LRU_CACHE: Any = type(functools.lru_cache(abs))
TYPED_DICT: Any = typing._TypedDictMeta  # type: ignore[attr-defined]
ALIAS: Any = getattr(typing, "TypeAliasType", None)  # since Python 3.12: the statement `type`
OF_TYPING = {typing.NewType, typing.ParamSpec, typing.TypeVarTuple, *([ALIAS] if ALIAS else [])}
BUILT_IN = frozenset({type(None), type(...), type(NotImplemented), *cloudpickle._BUILTIN_TYPE_NAMES})

REDUCERS: dict[type, Callable[[Any], Any]] = {
    functools.cached_property: _cached_property,
    weakref.WeakKeyDictionary: _weak_dict,
    io.TextIOWrapper: _text_file,
    memoryview: _memoryview,
    **dict.fromkeys({LRU_CACHE, *OF_TYPING}, _named),
}
