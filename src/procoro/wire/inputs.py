"""The inputs of calls as bytes.

Plain scalars of a span are pickled together, and so are copies of small rows of them (dicts, lists, tuples). Strings
need not be pickled at all. Anything else is pickled by itself (see `packer`), so that calls stay independent.
"""

from __future__ import annotations

import itertools
import pickle
import struct
from collections import ChainMap, Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from procoro.wire import blocks, handles
from procoro.wire.blocks import BIG, Parts, Written
from procoro.wire.channel import EACH, IN_BLOCK, INLINE, PARTS, PLAIN, TEXTS

# How a function is called with an input: f(x), f(*x), f(*x[0], **x[1]), x[0](*x[1], **x[2])
ONE, STAR, FULL, CARRIED = range(4)

SCALARS = frozenset({int, float, str, bytes, bool, type(None)})
LONG_SCALARS = frozenset({str, bytes})
ROWS: dict[type, Callable[[Any], Any]] = {dict: dict.copy, list: list.copy, tuple: tuple}  # how each is copied
HUGE = 1 << 128  # an int from there on is counted by its bytes
SEPARATOR = "\0"  # between strings, unless there is one in them
WIDEST, LONGEST_NAME = 64, 64  # fields of a row, and characters of their names: others are pickled one by one


class Inputs(Sequence[Any]):
    """Inputs of a stream, none of which anybody changes. A part of them is of their kind: that says how they travel."""

    __slots__ = ("values",)

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __getitem__(self, at: Any) -> Any:
        part = self.values[at]
        return type(self)(part) if isinstance(at, slice) else part


class PlainInputs(Inputs):
    """Scalars, or rows of them that nobody else has, not yet pickled: they cannot fail to pickle."""


class PackedInputs(Inputs):
    """Inputs that are pickled one by one, as bytes or `Parts`."""


class Carrying(Parts):
    """An input with handles in it, which are kept as long as it is."""

    __slots__ = ("__weakref__", "handles")

    def __init__(self, body: bytes, buffers: Sequence[bytes], found: list[handles.Handle]) -> None:
        super().__init__(body, buffers)
        self.handles = found
        for handle in found:
            handle.awaited_by.add(self)


class Refused:
    """An input that could not be packed: unpickling it raises what its call is to end with."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return _refuse, (self.words,)


def _refuse(words: str) -> None:
    from procoro.errors import NotPicklable

    raise NotPicklable(words)


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
    if int in types and type(values) is not range:
        size += _of_huge_ints(values, types)
    if types <= LONG_SCALARS:
        size += sum(map(len, values))
    elif types & LONG_SCALARS:
        size += sum(len(value) for value in values if isinstance(value, (str, bytes)))
    return size


def plain_inputs(values: Sequence[Any], shape: int) -> tuple[PlainInputs, int] | None:
    """Inputs that need not be pickled one by one, and their bytes, about; None if others are among them."""
    size = plain_size(values, shape)
    if size is not None:
        return PlainInputs(values), size
    return _rows(values) if shape == ONE else None


def _rows(values: Sequence[Any]) -> tuple[PlainInputs, int] | None:
    """Dicts, or lists, or tuples, with a few scalars each: copied, so that nobody else can change them."""
    kind = type(values[0])
    if kind not in ROWS or not {kind}.issuperset(map(type, values)) or max(map(len, values)) > WIDEST:
        return None
    rows = list(map(ROWS[kind], values))  # first: another thread may be changing them
    names: list[Any] = list(itertools.chain.from_iterable(rows)) if kind is dict else []
    fields = list(itertools.chain.from_iterable(map(dict.values, rows) if kind is dict else rows))
    if not SCALARS.issuperset(map(type, names)):
        return None
    if any(len(name) > LONGEST_NAME for name in set(names) if type(name) in LONG_SCALARS):
        return None
    widths = set(map(len, rows))
    columns = widths.pop() if len(widths) == 1 else 1  # of one type each, as a rule: that is looked through sooner
    sizes = [plain_size(fields[column::columns], ONE) for column in range(columns)]
    return None if None in sizes else (PlainInputs(rows), 128 * len(rows) + sum(filter(None, sizes)))


def _of_huge_ints(values: Sequence[Any], types: set[Any]) -> int:
    """Bytes of those that take more than any other number."""
    ints: Sequence[Any] = values if types == {int} else [value for value in values if type(value) is int]
    if not ints or -HUGE < min(ints) <= max(ints) < HUGE:
        return 0
    return sum(value.bit_length() >> 3 for value in ints)


def pack_span(inputs: Inputs) -> tuple[int, list[bytes], int | Written | None]:
    """The inputs of a span: how they are packed, as what bytes, or in which block (a new one, or that of an input).

    See `channel` for the codes.
    """
    items = inputs.values
    if isinstance(inputs, PlainInputs):
        packing, pieces = _pack_plain(items)
    elif not {bytes}.issuperset(map(type, items)) or max(map(len, items)) > BIG:
        if len(items) == 1 and isinstance(items[0], Written):
            return PARTS | IN_BLOCK, [], items[0]
        parts = [item if isinstance(item, Parts) else Parts(item, ()) for item in items]
        return PARTS | IN_BLOCK, [], blocks.write_parts(parts)
    else:
        ends = struct.pack(f"<{len(items)}I", *itertools.accumulate(map(len, items)))
        packing, pieces = EACH, [ends, *items]
    if sum(map(len, pieces)) > INLINE:
        return packing | IN_BLOCK, [], blocks.write_bytes([b"".join(pieces)])
    return packing, [b"".join(pieces)], None


def _pack_plain(items: Sequence[Any]) -> tuple[int, list[bytes]]:
    if type(items[0]) is str:
        try:
            joined = SEPARATOR.join(items)
            if joined.count(SEPARATOR) == len(items) - 1:
                return TEXTS, [joined.encode()]
        except (TypeError, UnicodeEncodeError):  # others are among them, or half a surrogate pair
            pass
    return PLAIN, [pickle.dumps(items if type(items) is list else list(items), 5)]


def handles_of(items: Inputs) -> tuple[list[handles.Handle], Counter[int]]:
    """All that must be sent before a span with these items, each once; how many items hold each, by its key."""
    found = [{one.key: one for one in item.handles} for item in items if isinstance(item, Carrying)]
    return list(ChainMap(*found).values()), Counter(itertools.chain.from_iterable(found))


def unpack_span(packing: int, data: memoryview, count: int) -> list[Any]:
    """The inputs of a span, as values (`PLAIN`, `TEXTS`) or as what unpickles each."""
    if packing == PLAIN:
        values: list[Any] = pickle.loads(data)
        return values
    if packing == TEXTS:
        return str(data, "utf-8").split(SEPARATOR)
    if packing == EACH:
        ends = struct.unpack_from(f"<{count}I", data)
        body = bytes(data[4 * count :])  # none is large, and of bytes a part is taken and read sooner than of a view
        return [body[start:end] for start, end in zip((0, *ends), ends, strict=False)]
    return blocks.read_parts(data)


def short(value: Any, shape: int) -> str:
    """An input, cut short, as it would stand between the brackets of the call. Never raises."""
    import reprlib

    try:
        if shape == ONE:
            return reprlib.repr(value)
        positional, keywords = value[-2:] if shape in (FULL, CARRIED) else (value, {})
        parts = [reprlib.repr(one) for one in positional]
        parts += [f"{name}={reprlib.repr(one)}" for name, one in keywords.items()]
        return ", ".join(parts)
    except Exception:
        return "..."
