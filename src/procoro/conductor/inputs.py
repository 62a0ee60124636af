"""Pulling from the user's iterables, within the bounds that the scheduler sets.

A sequence is pulled in place, in the crank's thread. An iterator may block, and runs the user's code: it gets a
feeder, a thread of its own that pulls, packs, and in the end closes what it pulled from.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from procoro.crank import Crank
from procoro.wire import codec
from procoro.wire.blocks import Parts

FRESH = 0.001  # seconds that a pulled input may wait for others to travel with
LAST = 0.1  # seconds in which the input that is being pulled when no more are wanted may still come

Supply = Callable[[Sequence[Any], int], None]
Finish = Callable[[BaseException | None], None]


class Source(Protocol):
    """What inputs are pulled from. Answers by `supply` and, once, by `finish`."""

    def pull(self, count: int, nbytes: int) -> None:
        """Supply up to so many items, and not much more than so many bytes; one item at least."""

    def stop(self, drop: bool) -> None:
        """No more is wanted. `drop`: nor what has been pulled and not been supplied."""


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
            self.stop(drop=False)

    def _take(self, values: Sequence[Any], nbytes: int) -> tuple[Sequence[Any], int]:
        plain = codec.plain_size(values, self._shape)
        if plain is not None:
            while plain is not None and plain > nbytes and len(values) > 1:
                values = values[: max(1, len(values) * nbytes // plain)]
                plain = codec.plain_size(values, self._shape)
            return codec.PlainInputs(values), plain or 0
        inputs, size = codec.PackedInputs(), 0
        for value in values:
            packed = pack_or_refuse(value, self._packer)
            inputs.append(packed)
            size += len(packed) if type(packed) is bytes else size_of(packed)
            if size >= nbytes:
                break
        return inputs, size

    def stop(self, drop: bool) -> None:
        """As in `Source`."""
        if not self._over:
            self._over = True
            self._values = ()
            self._finish(None)


class IteratorSource:
    """Any other iterable: pulled by a feeder thread, which may block alone.

    What it has pulled waits in a basket, which the crank takes away when it is full, or a millisecond after the
    first thing was put into it: an iterator that blocks holds nothing back.
    """

    def __init__(
        self,
        values: Iterable[Any],
        shape: int,
        packer: codec.Packer,
        supply: Supply,
        finish: Finish,
        crank: Crank,
    ) -> None:
        self._values = values
        self._shape = shape
        self._packer = packer
        self._supply = supply
        self._finish = finish
        self._crank = crank
        self._basket = _Basket(0, 0)  # full: nothing is asked for
        self._lock = threading.Lock()  # of the basket
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._over = False

    def pull(self, count: int, nbytes: int) -> None:
        """As in `Source`."""
        basket = _Basket(count, nbytes)
        with self._lock:
            for value, size in self._basket.values:  # one at most: pulled while the last basket was taken away
                basket.put(value, size)
            self._basket = basket
        if basket.values:
            self._take_away(basket)
            return
        try:
            self._wake()
        except RuntimeError as error:  # no thread can be started: this stream ends, and no other
            self._end(error)

    def _wake(self) -> None:
        self._asked.put(None)
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="procoro-feeder", daemon=True)
            thread.start()
            self._thread = thread

    def stop(self, drop: bool) -> None:
        """As in `Source`. What is being pulled now may block for ever: nobody waits long for it."""
        if not drop:
            self._take_away(self._basket)
        self._stopped = True
        try:
            self._wake()
        except RuntimeError:
            drop = True  # no thread can be started, and none had touched the iterator
        if drop:
            self._end(None)
        else:
            self._crank.call_later(LAST, lambda: self._end(None))

    def _take_away(self, basket: _Basket) -> None:
        """In the crank's thread: supply what is in the basket. No more is pulled till the next request."""
        with self._lock:
            if basket.taken or not basket.values or self._over:
                return
            basket.taken = True
            values, basket.values = basket.values, []
        self._hand_over(values)

    def _hand_over(self, values: list[tuple[Any, int]]) -> None:
        size = sum(size for _, size in values)
        if self._shape == codec.ONE and not any(type(value) is _Packed for value, _ in values):
            self._supply(codec.PlainInputs(value for value, _ in values), size)
            return
        packed = codec.PackedInputs(
            value.data if type(value) is _Packed else pack_or_refuse(value, self._packer) for value, _ in values
        )
        self._supply(packed, size)

    def _run(self) -> None:
        """The feeder's thread."""
        iterator: Iterator[Any] | None = None
        error: BaseException | None = None
        try:
            iterator = iter(self._values)
            self._feed(iterator)
        except BaseException as raised:
            error = raised
        self._crank.post(self._supply_rest)  # closing it may take a while
        close = getattr(iterator, "close", None)
        if close is not None and error is None:
            try:
                close()
            except BaseException as raised:
                error = raised
        self._crank.post(lambda: self._end(error))

    def _feed(self, iterator: Iterator[Any]) -> None:
        while not self._stopped:
            basket = self._basket
            if basket.full():
                self._asked.get()
                continue
            try:
                value = next(iterator)
            except StopIteration:
                return
            if type(value) in codec.SCALARS:
                size = 32 + (len(value) if isinstance(value, (str, bytes)) else 0)
            else:
                packed = pack_or_refuse(value, self._packer)
                value, size = _Packed(packed), size_of(packed)
            with self._lock:
                basket = self._basket
                basket.put(value, size)
            if len(basket.values) == 1 or basket.full():
                self._notify(basket)

    def _notify(self, basket: _Basket) -> None:
        def take_away() -> None:
            self._take_away(basket)

        self._crank.post(take_away if basket.full() else lambda: self._crank.call_later(FRESH, take_away))

    def _supply_rest(self) -> None:
        """In the crank's thread: nothing more is pulled."""
        if self._basket.values and not self._over:
            values, self._basket.values = self._basket.values, []
            self._hand_over(values)

    def _end(self, error: BaseException | None) -> None:
        """In the crank's thread: the iterator is at its end, or raised; or nobody waits for it any more."""
        if not self._over:
            self._over = True
            self._finish(None if self._stopped else error)


class _Basket:
    """What a feeder has pulled for one request."""

    __slots__ = ("_count", "_nbytes", "taken", "values")

    def __init__(self, count: int, nbytes: int) -> None:
        self._count = count
        self._nbytes = nbytes
        self.values: list[tuple[Any, int]] = []
        self.taken = count == 0

    def put(self, value: Any, size: int) -> None:
        """One more; it may come when the basket was just taken away, and then waits for the next."""
        self.values.append((value, size))
        self._count -= 1
        self._nbytes -= size

    def full(self) -> bool:
        """Is nothing more wanted?"""
        return self.taken or self._count <= 0 or self._nbytes <= 0


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
    except BaseException as error:  # in the crank's thread, a SystemExit is this input's error, too
        try:
            words = codec.describe_failure_to_pack(value, "input")
        except BaseException:
            words = f"input: {type(value).__name__}: it cannot be pickled: {error!r}"
        return packer.value(codec.Refused(words))
