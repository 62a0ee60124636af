"""Calls and outcomes as bytes.

Plain scalars of a span are pickled together; anything that can be shared or mutated is pickled by itself, so that
calls stay independent. An outcome is one pickle of protocol 3 without its STOP: such pickles can be joined, and
a thousand of them are loaded in one go (18 ns an int, against 250 ns one by one).
"""

from __future__ import annotations

import itertools
import os
import pickle
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from procoro.wire import blocks, record, twin
from procoro.wire.blocks import BIG, Parts
from procoro.wire.library import Library

SCALARS = frozenset({int, float, str, bytes, bool, type(None)})
MAIN = b"__main__"

# How a function is called with an input: f(x), f(*x), f(*x[0], **x[1])
ONE, STAR, FULL = range(3)


class PlainInputs(list[Any]):
    """Scalars, or tuples of them, not yet pickled: they cannot change, and cannot fail to pickle."""


class PackedInputs(list[Any]):
    """Inputs that are pickled one by one, as bytes or `Parts`."""


# -------------------------------------------------------------------------------------- inputs, functions


class Packer:
    """Packs the functions and inputs of one pool, in the thread that hands them in."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._functions: dict[int, tuple[object, int, frozenset[str]]] = {}

    def function(self, function: Callable[..., Any], again: bool) -> int:
        """Where the function stands in the library. Raises what pickling raises.

        `again`: look whether the globals of `__main__` that it names have changed in place.
        """
        known = self._functions.get(id(function))
        if known is not None and known[0] is function and not known[2]:
            return known[1]
        data, names = self._dumps(function, None)
        with self._lock:
            versions: tuple[tuple[str, int], ...] = ()
            if names:
                definitions = _twin.definitions(names, again)
                self._library.add_definitions(definitions)
                versions = tuple(sorted((name, version) for name, version, _ in definitions if name in names))
            place = self._library.add_function(data, versions)
            if len(self._functions) > 256:
                self._functions.clear()
            self._functions[id(function)] = (function, place, frozenset(names))
        return place

    def value(self, value: Any) -> bytes | Parts:
        """One input, with large buffers beside it. Names of `__main__` that it needs go into the library."""
        buffers: list[pickle.PickleBuffer] = []
        data, names = self._dumps(value, buffers)
        if names:
            with self._lock:
                self._library.add_definitions(_twin.definitions(names, again=False))
        # The caller may change an array once the call has returned: take its bytes now.
        return Parts(data, [bytes(buffer.raw()) for buffer in buffers]) if buffers else data

    def _dumps(self, value: Any, buffers: list[pickle.PickleBuffer] | None) -> tuple[bytes, set[str]]:
        callback = None if buffers is None else _large_buffers(buffers)
        try:
            data = pickle.dumps(value, 5, buffer_callback=callback)
            if MAIN not in data:
                return data, set()
        except Exception:
            pass  # a lambda, say; what cloudpickle cannot pack either is raised below
        if buffers is not None:
            buffers.clear()
        with self._lock:
            return _twin.dumps(value, callback)


_twin = twin.Packer()


def _large_buffers(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    """Small buffers stay in the pickle (a true answer), large ones are collected."""

    def collect(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < BIG:
            return True
        buffers.append(buffer)
        return False

    return collect


def plain_size(values: Sequence[Any], shape: int) -> int | None:
    """Bytes, about, of inputs that are all scalars (for `STAR`: tuples of scalars); None if others are among them."""
    if shape == STAR:
        if not {tuple}.issuperset(map(type, values)):
            return None
        values = list(itertools.chain.from_iterable(values))
    types = {int} if type(values) is range else set(map(type, values))
    if not types <= SCALARS:
        return None
    size = 32 * len(values)
    if types & {str, bytes}:
        size += sum(len(value) for value in values if isinstance(value, (str, bytes)))
    return size


def describe_failure_to_pack(value: Any, path: str) -> str:
    """Which part of a value cannot be pickled, by its path, and why."""
    seen: set[int] = set()
    while id(value) not in seen:
        seen.add(id(value))
        for step, part in _parts_of(value):
            if fails(part):
                path, value = path + step, part
                break
    try:
        twin.Packer().dumps(value)
        why = "it cannot be pickled as a whole"
    except Exception as error:
        why = str(error) or type(error).__name__
    return f"{path}: a {type(value).__module__}.{type(value).__qualname__} cannot travel to another process ({why})"


def fails(value: Any) -> bool:
    try:
        twin.Packer().dumps(value)
    except Exception:
        return True
    return False


def _parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif getattr(value, "__closure__", None):
        names = value.__code__.co_freevars
        yield from ((f".{name}", cell.cell_contents) for name, cell in zip(names, value.__closure__, strict=True))
    elif getattr(value, "__globals__", None) is twin.main_globals():
        named = [name for name in value.__code__.co_names if name in value.__globals__]
        yield from ((f", which names the global {name!r}", value.__globals__[name]) for name in named)
    elif not isinstance(value, type):
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())


# ------------------------------------------------------------------------------------- a span's inputs

COUNT = struct.Struct("<I")


def pack_span(items: Sequence[Any]) -> tuple[int, list[bytes], int | None]:
    """The inputs of a span: how they are packed, as what bytes, or in which block. (See `channel` for the codes.)"""
    from procoro.wire.channel import EACH, IN_BLOCK, INLINE, PARTS, PLAIN

    if isinstance(items, PlainInputs):
        packing, pieces = PLAIN, [pickle.dumps(list(items), 5)]
    elif any(isinstance(item, Parts) or len(item) > BIG for item in items):
        parts = [item if isinstance(item, Parts) else Parts(item, ()) for item in items]
        return PARTS | IN_BLOCK, [], blocks.write_parts(parts)
    else:
        ends = struct.pack(f"<{len(items)}I", *itertools.accumulate(map(len, items)))
        packing, pieces = EACH, [ends, *items]
    if sum(map(len, pieces)) > INLINE:
        return packing | IN_BLOCK, [], blocks.write_bytes([b"".join(pieces)])
    return packing, [b"".join(pieces)], None


def unpack_span(packing: int, data: memoryview, count: int) -> list[Any]:
    """The inputs of a span, as values (`PLAIN`) or as what unpickles each."""
    from procoro.wire.channel import EACH, PLAIN

    if packing == PLAIN:
        values: list[Any] = pickle.loads(data)
        return values
    if packing == EACH:
        ends = struct.unpack_from(f"<{count}I", data)
        body = data[4 * count :]
        return [body[start:end] for start, end in zip((0, *ends), ends, strict=False)]
    return blocks.read_parts(data)


# -------------------------------------------------------------------------------------------- outcomes


class Values:
    """A run of values: joined pickles, the cells that tell where each ends in the slot, and where the first begins."""

    __slots__ = ("cells", "data", "start")

    def __init__(self, data: bytes, cells: list[int], start: int) -> None:
        self.data = data
        self.cells = cells
        self.start = start

    def load(self) -> list[Any]:
        """All values. Raises if one of them cannot be unpickled: then ask `load_one` for each."""
        values: list[Any] = pickle.loads(b"(" + self.data + b"l.")
        return values

    def load_one(self, index: int) -> Any:
        """One value. Raises whatever unpickling it raises."""
        start = self._end(index - 1) if index else 0
        return pickle.loads(self.data[start : self._end(index)] + b".")

    def _end(self, index: int) -> int:
        return (self.cells[index] & record.END_MASK) - self.start


class BigValue:
    """One value in a block."""

    __slots__ = ("block",)

    def __init__(self, block: memoryview) -> None:
        self.block = block

    def load_one(self, index: int) -> Any:
        """The value. Raises whatever unpickling it raises."""
        return blocks.read_parts(self.block)[0]()


class Failure:
    """The exception that a call ended with."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data

    def load(self) -> ExceptionAsData:
        """What was recorded of it; never raises."""
        data: ExceptionAsData = pickle.loads(self.data)
        return data


def pack_value(value: Any) -> bytes:
    """One joinable outcome. Raises what pickling raises."""
    try:
        return pickle.dumps(value, 3)
    except Exception:
        return _to_protocol_3(value)


def _to_protocol_3(value: Any) -> bytes:
    # What only cloudpickle can pack is in protocol 5, which cannot be joined: wrapped, it can.
    return pickle.dumps(Wrapped(twin.Packer().dumps(value)[0]), 3)


class Wrapped:
    """A pickle within a pickle: what it holds when unpickled."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return pickle.loads, (self.data,)


def pack_big_value(value: Any) -> Parts:
    """One outcome with its large buffers beside it."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(value, 5, buffer_callback=_large_buffers(buffers))
    except Exception:
        buffers.clear()
        data, _ = twin.Packer().dumps(value, _large_buffers(buffers))
    return Parts(data, [buffer.raw() for buffer in buffers])


class ExceptionAsData:
    """An exception in parts that always unpickle: the object itself is pickled within."""

    def __init__(self, error: BaseException, trace: str, seen: frozenset[int] = frozenset()) -> None:
        seen |= {id(error)}
        self.pickled = _pickle_exception(error)
        self.name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        self.text = _text(error)
        self.notes = [str(note) for note in getattr(error, "__notes__", ()) or ()]
        self.trace = trace
        self.pid = os.getpid()
        self.input = ""  # of the call, cut short
        self.suppressed = error.__suppress_context__
        self.cause = self._follow(error.__cause__, seen)
        self.context = self._follow(error.__context__, seen)

    @staticmethod
    def _follow(error: BaseException | None, seen: frozenset[int]) -> ExceptionAsData | None:
        return None if error is None or id(error) in seen or len(seen) > 20 else ExceptionAsData(error, "", seen)


def _pickle_exception(error: BaseException) -> bytes | None:
    try:
        data = pack_value(error)
        pickle.loads(data)
        return data
    except Exception:
        return None  # it cannot travel, or not be rebuilt: its text will have to do


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as bad:
        return f"<its str() raised {type(bad).__name__}>"


def pack_failure(error: BaseException, given: str = "...") -> bytes:
    """What is recorded of an exception: itself if it can travel, its text and traceback in any case."""
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("procoro."):
        trace = trace.tb_next  # our own frames teach nobody
    try:
        text = "".join(traceback.format_exception(type(error), error.with_traceback(trace), trace))
    except Exception as bad:
        text = f"<the traceback could not be formatted: {type(bad).__name__}>"
    data = ExceptionAsData(error, text)
    data.input = given
    return pickle.dumps(data, 3)


class Refused:
    """An input that could not be packed: unpickling it raises what its call is to end with."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return _refuse, (self.words,)


def _refuse(words: str) -> None:
    from procoro.errors import NotPicklable

    raise NotPicklable(words)


def short(value: Any, shape: int) -> str:
    """An input, cut short, as it would stand between the brackets of the call. Never raises."""
    import reprlib

    try:
        if shape == ONE:
            return reprlib.repr(value)
        positional, keywords = value if shape == FULL else (value, {})
        parts = [reprlib.repr(one) for one in positional]
        parts += [f"{name}={reprlib.repr(one)}" for name, one in keywords.items()]
        return ", ".join(parts)
    except Exception:
        return "..."
