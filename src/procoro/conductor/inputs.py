"""Pulling from the user's iterables, within the bounds that the scheduler sets.

A sequence is pulled in place, in the crank's thread. An iterator may block, and runs the user's code: it gets a
feeder, a thread of its own that pulls, packs, and in the end closes what it pulled from.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from procoro.wire import codec
from procoro.wire.blocks import Parts

Supply = Callable[[Sequence[Any], int], None]
Finish = Callable[[BaseException | None], None]


class Source(Protocol):
    """What inputs are pulled from. Answers by `supply` and, once, by `finish`."""

    def pull(self, count: int, nbytes: int) -> None:
        """Supply up to so many items, and not much more than so many bytes; one item at least."""

    def stop(self) -> None:
        """No more is wanted."""


class SequenceSource:
    """A list, tuple or range: pulled in place."""

    def __init__(self, values: Sequence[Any], shape: int, packer: codec.Packer, supply: Supply, finish: Finish) -> None:
        self._values = values
        self._at = 0
        self._shape = shape
        self._packer = packer
        self._supply = supply
        self._finish = finish
        self._over = False

    def pull(self, count: int, nbytes: int) -> None:
        """As in `Source`."""
        values = self._values[self._at : self._at + count]
        if values:
            items, size = self._take(values, nbytes)
            self._at += len(items)
            self._supply(items, size)
        if self._at >= len(self._values):
            self.stop()

    def _take(self, values: Sequence[Any], nbytes: int) -> tuple[Sequence[Any], int]:
        if codec.is_plain(values, self._shape):
            items, size = self._packer.inputs(values, self._shape)
            while size > nbytes and len(values) > 1:
                values = values[: max(1, len(values) * nbytes // size)]
                items, size = self._packer.inputs(values, self._shape)
            return items, size
        packed, size = codec.PackedInputs(), 0
        for value in values:
            packed.append(pack_or_refuse(value, self._packer))
            size += size_of(packed[-1])
            if size >= nbytes:
                break
        return packed, size

    def stop(self) -> None:
        """As in `Source`."""
        if not self._over:
            self._over = True
            self._values = ()
            self._finish(None)


class IteratorSource:
    """Any other iterable: pulled by a feeder thread, which may block alone."""

    def __init__(self, values: Iterable[Any], shape: int, packer: codec.Packer, supply: Supply, finish: Finish) -> None:
        self._values = values
        self._shape = shape
        self._packer = packer
        self._supply = supply
        self._finish = finish
        self._asked: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def pull(self, count: int, nbytes: int) -> None:
        """As in `Source`."""
        self._asked.put((count, nbytes))
        self._start()

    def stop(self) -> None:
        """As in `Source`. What is being pulled now may block for ever; nobody waits for it."""
        self._stopped = True
        self._asked.put(None)
        self._start()
        self._finish(None)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="procoro-feeder", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        iterator: Iterator[Any] | None = None
        error: BaseException | None = None
        try:
            iterator = iter(self._values)
            while (asked := self._asked.get()) is not None and not self._stopped:
                if not self._answer(iterator, *asked):
                    break
        except BaseException as raised:
            error = raised
        close = getattr(iterator, "close", None)
        if close is not None and error is None:
            try:
                close()
            except BaseException as raised:
                error = raised
        if not self._stopped:
            self._finish(error)

    def _answer(self, iterator: Iterator[Any], count: int, nbytes: int) -> bool:
        """One pull; False at the end of the iterator. What came before an exception is supplied first."""
        values: list[Any] = []
        error: BaseException | None = None
        ended = False
        size = 0
        while len(values) < count and size < nbytes and not self._stopped:
            try:
                value = next(iterator)
            except StopIteration:
                ended = True
                break
            except BaseException as raised:
                error = raised
                break
            if type(value) in codec.SCALARS:
                size += 32 + (len(value) if isinstance(value, (str, bytes)) else 0)
            else:
                value = pack_or_refuse(value, self._packer)
                size += size_of(value)
                value = _Packed(value)
            values.append(value)
        self._hand_over(values, size)
        if error is not None:
            raise error
        return not ended

    def _hand_over(self, values: list[Any], size: int) -> None:
        if not values or self._stopped:
            return
        if not any(type(value) is _Packed for value in values) and self._shape == codec.ONE:
            self._supply(codec.PlainInputs(values), size)
            return
        packed = codec.PackedInputs(
            value.data if type(value) is _Packed else pack_or_refuse(value, self._packer) for value in values
        )
        self._supply(packed, size)


class _Packed:
    """An input that is packed, among others that need not be."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | Parts) -> None:
        self.data = data


def size_of(packed: bytes | Parts) -> int:
    """Bytes of a packed input."""
    return packed.nbytes if isinstance(packed, Parts) else len(packed)


def pack_or_refuse(value: Any, packer: codec.Packer) -> bytes | Parts:
    """The packed input; or, where it cannot be packed, one that fails its own call with that error."""
    try:
        return packer.value(value)
    except Exception:
        words = codec.describe_failure_to_pack(value, type(value).__name__)
        return packer.value(codec.Refused(f"input: {words}"))
