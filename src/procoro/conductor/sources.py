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
from procoro.wire.blocks import Parts
from procoro.wire.inputs import HUGE, ONE, SCALARS, Inputs, PackedInputs, PlainInputs, Refused, plain_inputs
from procoro.wire.packer import Packer

FRESH = 0.001  # seconds that a pulled input may wait for others to travel with
LAST = 0.1  # seconds in which the input that is being pulled when no more are wanted may still come

Supply = Callable[[Inputs, int], None]
Finish = Callable[[BaseException | None], None]


class Source(Protocol):
    """What inputs are pulled from. Answers by `supply` and, once, by `finish`."""

    def pull(self, count: int, nbytes: int) -> None:
        """Supply up to so many items, and not much more than so many bytes; one item at least."""

    def stop(self, drop: bool) -> None:
        """No more is wanted. `drop`: nor what has been pulled and not been supplied."""


class SequenceSource:
    """A list, tuple or range: pulled in place."""

    def __init__(self, values: Sequence[Any], shape: int, packer: Packer, supply: Supply, finish: Finish) -> None:
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

    def _take(self, values: Sequence[Any], nbytes: int) -> tuple[Inputs, int]:
        while (plain := plain_inputs(values, self._shape)) is not None:
            _, size = plain
            if size <= nbytes or len(values) == 1:
                return plain
            values = values[: max(1, len(values) * nbytes // size)]
        inputs: list[bytes | Parts] = []
        size = 0
        for value in values:
            packed = pack_or_refuse(value, self._packer)
            inputs.append(packed)
            size += len(packed) if type(packed) is bytes else size_of(packed)
            if size >= nbytes:
                break
        return PackedInputs(inputs), size

    def stop(self, drop: bool) -> None:
        """As in `Source`."""
        if not self._over:
            self._over = True
            self._values = ()
            self._finish(None)


class IteratorSource:
    """Any other iterable: pulled by a feeder thread, which may block alone.

    What it has pulled waits in a basket, which the crank takes away when all that was asked for is there, or a
    millisecond after the first thing was put into it: an iterator that blocks holds nothing back.

    They need no lock. The feeder only puts, and the crank only takes, from the front; only the crank writes what is
    wanted. The feeder first puts and then looks whether that was all; the crank first writes what is wanted and then
    looks whether there is something: so at least one of them sees what the other has done.
    """

    def __init__(
        self,
        values: Iterable[Any],
        shape: int,
        packer: Packer,
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
        self._basket: list[Any] = []
        self._sizes: list[int] = []  # bytes of each, put after it
        self._supplied = self._supplied_nbytes = 0
        self._wanted = self._wanted_nbytes = 0  # from the beginning
        self._requests = 0
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._over = False

    def pull(self, count: int, nbytes: int) -> None:
        """As in `Source`."""
        self._requests += 1
        self._wanted, self._wanted_nbytes = self._supplied + count, self._supplied_nbytes + nbytes
        if self._sizes:  # one: pulled while the last request was answered
            self._take_away()
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
            self._take_away()
        self._stopped = True
        try:
            self._wake()
        except RuntimeError:
            drop = True  # no thread can be started, and none had touched the iterator
        if drop:
            self._end(None)
        else:
            self._crank.call_later(LAST, lambda: self._end(None))

    def _take_away(self) -> None:
        """In the crank's thread: supply what is in the basket. No more is pulled till the next request."""
        count = len(self._sizes)
        if not count or self._over:
            return
        values, size = self._basket[:count], sum(self._sizes[:count])
        del self._basket[:count], self._sizes[:count]
        self._supplied += count
        self._supplied_nbytes += size
        self._wanted = 0
        if self._shape == ONE and _Packed not in set(map(type, values)):
            self._supply(PlainInputs(values), size)
            return
        packed = [value.data if type(value) is _Packed else pack_or_refuse(value, self._packer) for value in values]
        self._supply(PackedInputs(packed), size)

    def _run(self) -> None:
        """The feeder's thread."""
        iterator: Iterator[Any] | None = None
        error: BaseException | None = None
        try:
            iterator = iter(self._values)
            self._feed(iterator)
        except BaseException as raised:
            error = raised
        self._crank.post(self._take_away)  # closing it may take a while
        close = getattr(iterator, "close", None)
        if close is not None and error is None:
            try:
                close()
            except BaseException as raised:
                error = raised
        self._crank.post(lambda: self._end(error))

    def _feed(self, iterator: Iterator[Any]) -> None:
        put = nbytes = 0
        self._wait_for_request(put, nbytes)
        if self._stopped:
            return
        for value in iterator:
            kind = type(value)
            if kind in SCALARS:
                size = 32
                if kind is str or kind is bytes:
                    size += len(value)
                elif kind is int and not -HUGE < value < HUGE:
                    size += value.bit_length() >> 3
                self._basket.append(value)
            else:
                size = self._put_packed(value)
            self._sizes.append(size)
            put += 1
            nbytes += size
            full = put >= self._wanted or nbytes >= self._wanted_nbytes
            if full or len(self._sizes) == 1:
                self._notify(self._requests, full)
            if full:
                value = None  # it may be large
                self._wait_for_request(put, nbytes)
            if self._stopped:
                return

    def _put_packed(self, value: Any) -> int:
        packed = pack_or_refuse(value, self._packer)
        self._basket.append(_Packed(packed))
        return size_of(packed)

    def _wait_for_request(self, put: int, nbytes: int) -> None:
        while not self._stopped and (put >= self._wanted or nbytes >= self._wanted_nbytes):
            self._asked.get()

    def _notify(self, request: int, full: bool) -> None:
        def take_away() -> None:
            if self._requests == request and self._wanted:  # it is not answered
                self._take_away()

        self._crank.post(take_away if full else lambda: self._crank.call_later(FRESH, take_away))

    def _end(self, error: BaseException | None) -> None:
        """In the crank's thread: the iterator is at its end, or raised; or nobody waits for it any more."""
        if not self._over:
            self._over = True
            self._finish(None if self._stopped else error)


class _Packed:
    """An input that is packed, among others that need not be."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | Parts) -> None:
        self.data = data


def size_of(packed: bytes | Parts) -> int:
    """Bytes of a packed input."""
    return packed.nbytes if isinstance(packed, Parts) else len(packed)


def pack_or_refuse(value: Any, packer: Packer) -> bytes | Parts:
    """The packed input; or, where it cannot be packed, one that fails its own call with that error."""
    try:
        return packer.value(value)
    except BaseException as error:  # in the crank's thread, a SystemExit is this input's error, too
        try:
            from procoro.wire import refusals

            words = refusals.describe(value, "input")
        except BaseException:
            words = f"input: {type(value).__name__}: it cannot be pickled: {error!r}"
        return packer.value(Refused(words))
