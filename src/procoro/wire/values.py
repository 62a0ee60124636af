"""The values that calls returned, as bytes.

Each is one pickle of protocol 3 without its STOP: such pickles can be joined, and a thousand of them are loaded in one
go (18 ns an int, against 250 ns one by one). A large one stands in a block. Ints, floats and strings are not pickled at
all, as long as a span's calls return nothing else.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pickle import dumps  # by name: calls may patch the module
from typing import Any, Literal

from procoro.wire import blocks, record, twin
from procoro.wire.blocks import Parts


class Values:
    """A run of values: joined pickles, the cells that tell where each ends in the slot, and where the first begins."""

    __slots__ = ("cells", "data", "start")

    def __init__(self, data: bytes, cells: Sequence[int], start: int) -> None:
        self.data = data
        self.cells = cells
        self.start = start

    def load(self) -> list[Any]:
        """All values. Raises if one of them cannot be unpickled: then ask `load_one` for each."""
        values: list[Any] = pickle.loads(b"(" + self.data + b"l.")
        return values

    def load_one(self, index: int) -> Any:
        """One value. Raises whatever unpickling it raises."""
        return pickle.loads(self._bytes(index) + b".")

    def _bytes(self, index: int) -> bytes:
        return self.data[self._end(index - 1) if index else 0 : self._end(index)]

    def _end(self, index: int) -> int:
        return (self.cells[index] & record.END_MASK) - self.start


class Texts(Values):
    """A run of strings, with a zero behind each."""

    __slots__ = ()

    def load(self) -> list[Any]:
        """All of them."""
        texts = self.data.decode().split("\0")
        if len(texts) > len(self.cells) + 1:  # there are zeros within them
            return [self.load_one(index) for index in range(len(self.cells))]
        del texts[-1]  # what stands behind the last zero
        return texts

    def load_one(self, index: int) -> Any:
        """One of them."""
        return self._bytes(index)[:-1].decode()


class Numbers:
    """A run of ints or floats, as the machine holds them."""

    __slots__ = ("_numbers",)

    def __init__(self, data: bytes, form: Literal["q", "d"]) -> None:
        self._numbers = memoryview(data).cast(form)

    def load(self) -> list[Any]:
        """All of them."""
        return self._numbers.tolist()

    def load_one(self, index: int) -> Any:
        """One of them."""
        return self._numbers[index]


class BigValue:
    """One value in a block."""

    __slots__ = ("block",)

    def __init__(self, block: memoryview) -> None:
        self.block = block

    def load_one(self, index: int) -> Any:
        """The value. Raises whatever unpickling it raises."""
        return blocks.read_parts(self.block)[0]()


def pack_value(value: Any) -> bytes:
    """One joinable outcome. Raises what pickling raises."""
    try:
        return dumps(value, 3)
    except Exception:
        return _to_protocol_3(value)


def _to_protocol_3(value: Any) -> bytes:
    # What only cloudpickle can pack is in protocol 5, which cannot be joined: wrapped, it can.
    return pickle.dumps(Wrapped(twin.dumps(value)[0]), 3)


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
        data = pickle.dumps(value, 5, buffer_callback=blocks.large_buffers(buffers))
    except Exception:
        buffers.clear()
        data, _ = twin.dumps(value, blocks.large_buffers(buffers))
    return Parts(data, [buffer.raw() for buffer in buffers])
