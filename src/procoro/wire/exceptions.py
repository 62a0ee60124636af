"""An exception as bytes: itself, if it can travel; its words and its worker's traceback in any case.

It is rebuilt without its constructor, which may want more than it has handed on, or would put its words into words
again. Causes, contexts and the members of a group travel each by itself: one that cannot harms no other.
"""

from __future__ import annotations

import copyreg
import io
import os
import pickle
from functools import partial
from typing import Any

from procoro.wire import twin

MOST = 100  # exceptions that are recorded of one chain


class Failure:
    """The exception that a call ended with."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data

    def load(self) -> ExceptionAsData:
        """What was recorded of it; never raises."""
        data: ExceptionAsData = pickle.loads(self.data)
        return data


class ExceptionAsData:
    """An exception in parts that always unpickle: the object itself is pickled within."""

    def __init__(self, error: BaseException) -> None:
        self.name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        self.text = _text(error)
        self.notes = _notes(error)
        self.pickled = _pack_exception(error)
        self.trace = ""  # the traceback, as text
        self.pid = os.getpid()
        self.input = ""  # of the call, cut short
        self.suppressed = error.__suppress_context__
        self.links: dict[str, ExceptionAsData] = {}  # __cause__ and __context__, which may lead round in a circle
        self.members: list[ExceptionAsData] | None = None  # of a group
        self.message = ""
        self.shell: bytes | None = None  # a group's class and attributes, without its members

    def rebuild(self) -> BaseException:
        """The exception as it was, with its causes and contexts. Never raises.

        A `RemoteError` stands where one cannot be rebuilt, and a plain group for a group whose class cannot.
        """
        built: dict[int, tuple[ExceptionAsData, BaseException]] = {}
        todo, seen = [self], {id(self)}
        while todo:
            data = todo.pop()
            data._build(built)
            new = [one for one in (*data.links.values(), *(data.members or ())) if id(one) not in seen]
            seen |= set(map(id, new))
            todo += new
        for data, error in built.values():
            for name in ("__cause__", "__context__"):
                other = data.links.get(name)
                _set(error, name, None if other is None else built[id(other)][1])
            _set(error, "__suppress_context__", data.suppressed)
        return built[id(self)][1]

    def _build(self, built: dict[int, tuple[ExceptionAsData, BaseException]]) -> BaseException:
        if id(self) not in built:
            members = None if self.members is None else [one._build(built) for one in self.members]
            built[id(self)] = self, self._load() if members is None else self._group(members)
        return built[id(self)][1]

    def _load(self) -> BaseException:
        try:
            error = pickle.loads(self.pickled or b"")
            if isinstance(error, BaseException):
                return error
        except Exception:
            pass
        from procoro.errors import RemoteError

        return self._with_notes(RemoteError(f"{self.name}: {self.text}"))

    def _group(self, members: list[BaseException]) -> BaseException:
        try:
            kind, state, slots = pickle.loads(self.shell or b"")
            return remake(kind, (self.message, members), state, slots)
        except Exception:
            known = self.name in ("ExceptionGroup", "BaseExceptionGroup")
            message = self.message if known else f"{self.name}: {self.message}"
            return self._with_notes(BaseExceptionGroup(message, members))

    def _with_notes(self, error: BaseException) -> BaseException:
        for note in self.notes:
            add_note(error, note)
        return error


def as_data(error: BaseException) -> ExceptionAsData:
    """An exception as data, with its causes, contexts and members, as far as `MOST` allows."""
    first = ExceptionAsData(error)
    found = {id(error): (error, first)}
    todo = [error]

    def follow(one: BaseException) -> ExceptionAsData | None:
        if id(one) not in found and len(found) < MOST:
            found[id(one)] = one, ExceptionAsData(one)
            todo.append(one)
        return found.get(id(one), (one, None))[1]

    while todo:
        one = todo.pop()
        data = found[id(one)][1]
        if isinstance(one, BaseExceptionGroup):
            data.message = _text(one.message)
            data.shell = _pack(partial(_shell, one))
            data.members = [member for each in one.exceptions if (member := follow(each))] or None
        for name in ("__cause__", "__context__"):
            other = getattr(one, name)
            link = None if other is None else follow(other)
            if link is not None:
                data.links[name] = link
    return first


# ------------------------------------------------------------------------------------------ one exception


def _pack_exception(error: BaseException) -> bytes | None:
    """Itself, pickled; None if it cannot travel, or not be rebuilt: then its text will have to do."""
    kind = type(error)
    if (kind.__module__, kind.__qualname__) == ("urllib.error", "HTTPError"):
        return _pack(lambda: _WithoutAnswer(error))
    if kind.__module__ == "builtins" or _says_how(kind):
        data = _pack(lambda: error)
        if data is not None:
            return data
    return _pack(lambda: _Bare(error))


def _pack(make: Any) -> bytes | None:
    try:
        value = make()
        try:
            data = pickle.dumps(value, 5)
        except Exception:
            data, _ = twin.dumps(value)
        rebuilt = pickle.loads(data)
        return data if isinstance(rebuilt, (BaseException, tuple)) else None
    except BaseException:  # whatever the user's code raises: this is about another error
        return None


def _says_how(kind: type[BaseException]) -> bool:
    """Does the class, or one that it inherits from, say how it is pickled?"""
    own = [one for one in kind.__mro__ if one.__module__ != "builtins"]
    return any(one.__dict__.keys() & {"__reduce__", "__reduce_ex__", "__getstate__", "__setstate__"} for one in own)


class _WithoutAnswer:
    """urllib's HTTPError, which holds the connection that the answer comes by: that stays, and there is nothing to
    read."""

    def __init__(self, error: Any) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        error = self.error
        return type(error), (error.filename, error.code, error.msg, error.hdrs, io.BytesIO())


class _Bare:
    """An exception that is to be rebuilt without its constructor."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return remake, _parts(self.error)


def _parts(error: BaseException) -> tuple[Any, ...]:
    """Its class, its arguments, its attributes, and what it holds in slots."""
    kind = type(error)
    builtin: Any = next(one for one in kind.__mro__ if one.__module__ == "builtins")
    _, args, *state = builtin.__reduce__(error)
    slots = {}
    for name in copyreg._slotnames(kind):  # type: ignore[attr-defined]
        try:
            slots[name] = getattr(error, name)
        except AttributeError:
            pass
    return kind, args, *(state or [None]), slots


def _shell(group: BaseException) -> tuple[Any, ...]:
    kind, _, state, slots = _parts(group)
    return kind, state, slots


def remake(kind: type[BaseException], args: Any, state: dict[str, Any] | None, slots: dict[str, Any]) -> BaseException:
    """An exception, made by the class of Python's own that it derives from."""
    builtins: list[Any] = [one for one in kind.__mro__ if one.__module__ == "builtins"]
    for builtin in builtins:
        try:
            error: BaseException = builtin.__new__(kind, *args)
        except TypeError:  # another one of its bases says how much room it takes
            continue
        builtin.__init__(error, *args)
        break
    else:
        raise TypeError(f"{kind} derives from no exception")
    try:
        BaseException.__setstate__(error, state)
    except Exception:  # it is frozen
        error.__dict__.update(state or {})
    for name, value in slots.items():
        object.__setattr__(error, name, value)
    return error


def _set(error: BaseException, name: str, value: object) -> None:
    BaseException.__setattr__(error, name, value)  # its own may refuse: a frozen dataclass


def add_note(error: BaseException, note: str) -> None:
    """As its own method, whatever its class and its `__notes__` are."""
    try:
        error.add_note(note)
    except Exception:
        notes = error.__dict__.get("__notes__")
        error.__dict__["__notes__"] = [*(notes if isinstance(notes, list) else ()), note]


def _text(error: object) -> str:
    try:
        return str.__str__(str(error))  # of a class of the user's, perhaps
    except BaseException as bad:
        return f"<its str() raised {type(bad).__name__}>"


def _notes(error: BaseException) -> list[str]:
    notes = error.__dict__.get("__notes__")
    return [_text(note) for note in notes] if isinstance(notes, (list, tuple)) else []


def pack_failure(error: BaseException, given: str = "...") -> bytes:
    """What is recorded of an exception: itself if it can travel, its text and traceback in any case."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("procoro."):
        trace = trace.tb_next  # our own frames teach nobody
    try:
        import traceback  # may fail, too: no descriptor is free

        text = "".join(traceback.format_exception(type(error), error.with_traceback(trace), trace))
    except BaseException as bad:
        text = f"{type(error).__qualname__}: {_text(error)} (its traceback could not be written: {type(bad).__name__})"
    data = as_data(error)
    data.trace, data.input = text, given
    return pickle.dumps(data, 3)
