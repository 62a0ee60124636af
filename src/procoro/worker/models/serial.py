"""One call at a time, in order."""

from __future__ import annotations

from pickle import dumps  # by name: calls may patch the modules
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any

from procoro import kernel
from procoro.wire import record
from procoro.wire.blocks import BIG
from procoro.wire.record import END_BITS, FAILURE, FLOAT, FORMATS, INT, MIXED, TEXT, VALUE
from procoro.worker import outcomes

if TYPE_CHECKING:
    from procoro.worker.loop import Span, Worker

STRIDE = 16  # calls between two looks at the clock, while they are short: one takes 50 ns
NUMBERS = {int: INT, float: FLOAT}
LONGEST = BIG // 4  # characters of a string that is recorded as UTF-8


def run(worker: Worker, span: Span) -> int:
    """Run the calls of a span until its end, which the parent may draw nearer; how many were run."""
    return Serial(worker, span).run()


class Serial:
    """The calls of a span.

    Every outcome is recorded before the next call begins: first the outcome, then, by one store, its cell. As a rule
    all calls return the same kind of value, so there is a loop for each kind that need not be pickled: it takes 160 ns
    for an int, of which one loop for all that a call may come to would be a fifth more. Each loop begins with what the
    last call has come to, and none gives back to another what has once been left for `anything`.
    """

    __slots__ = ("call", "cells", "end_at", "header", "inputs", "looked", "position", "rang", "span", "tag", "worker")

    def __init__(self, worker: Worker, span: Span) -> None:
        self.worker = worker
        self.span = span
        self.inputs = span.inputs
        self.call = span.call
        self.header = worker.memory.header
        self.cells = worker.memory.cells[span.slot]
        self.end_at = record.ENDS + span.slot
        self.tag = span.number << record.SPAN_BITS
        self.position = 0  # where the bytes of what has been recorded end
        self.looked = self.rang = clock()

    def run(self) -> int:
        """Run them; how many were run."""
        if self.header[self.end_at] <= self.tag:
            return 0
        try:
            value = self.call(self.inputs[0])
        except BaseException as error:
            outcome = self.failed(0, error)
        else:
            # Where another processor may see stores in another order each takes a system call, longer than any pickle.
            if kernel.STORES_IN_ORDER and not self.worker.returns_large:
                if type(value) in NUMBERS:
                    return self.numbers(value)
                if type(value) is str and len(value) <= LONGEST:
                    return self.texts(value)
            outcome = self.packed(0, value)
            del value  # before the next one takes memory
        return self.anything(0, *outcome)

    def numbers(self, value: Any) -> int:
        """As long as all return numbers of one type."""
        header, cells, end_at, tag = self.header, self.cells, self.end_at, self.tag
        call, inputs, rows, printed = self.call, self.inputs, self.span.packed is not None, self.worker.printed
        kind = type(value)
        numbers: Any = self.worker.memory.numbers[self.span.slot].cast(FORMATS[NUMBERS[kind]])
        cell = tag | NUMBERS[kind] << END_BITS
        at, look_at = 0, 1
        outcome: tuple[int, bytes] | None = None
        while type(value) is kind:
            if printed:
                self.worker.flush()
            try:
                numbers[at] = value
            except ValueError:  # more than 64 bits
                break
            cells[at] = cell
            if rows:
                inputs[at] = None
            at += 1
            if at == look_at:
                look_at += self.look()
            if at >= header[end_at] - tag:
                return at
            try:
                value = call(inputs[at])
            except BaseException as error:
                outcome = self.failed(at, error)
                break
        if outcome is None:
            outcome = self.packed(at, value)
        del value
        return self.anything(at, *outcome)

    def texts(self, value: Any) -> int:
        """As long as all return strings that are not long."""
        header, cells, end_at, tag = self.header, self.cells, self.end_at, self.tag
        call, inputs, rows, printed = self.call, self.inputs, self.span.packed is not None, self.worker.printed
        data = self.worker.memory.data[self.span.slot]
        room = record.room(len(inputs))
        mark = tag | TEXT << END_BITS
        at, position, look_at = 0, 0, 1
        outcome: tuple[int, bytes] | None = None
        while type(value) is str and len(value) <= LONGEST:
            try:
                body = (value + "\0").encode()
            except Exception:  # half a surrogate pair, or no memory
                break
            stop = position + len(body)
            if stop > room:
                break
            if printed:
                self.worker.flush()
            data[position:stop] = body
            position = stop
            cells[at] = mark | position
            if rows:
                inputs[at] = None
            at += 1
            if at == look_at:
                look_at += self.look()
            if at >= header[end_at] - tag:
                return at
            try:
                value = call(inputs[at])
            except BaseException as error:
                outcome = self.failed(at, error)
                break
        self.position = position
        if outcome is None:
            outcome = self.packed(at, value)
        del value
        return self.anything(at, *outcome)

    def anything(self, at: int, kind: int, body: bytes) -> int:
        """Whatever they come to."""
        header, cells, end_at, tag = self.header, self.cells, self.end_at, self.tag
        call, inputs, rows, printed = self.call, self.inputs, self.span.packed is not None, self.worker.printed
        worker, memory, span = self.worker, self.worker.memory, self.span
        data, position, room = memory.data[span.slot], self.position, record.room(len(inputs))
        in_order, mark, look_at = kernel.STORES_IN_ORDER, tag, at + 1
        while True:
            stop = position + len(body)
            if stop > room:
                kind, body = outcomes.into_block(worker, kind, body)
                stop = position + len(body)
            if printed:
                worker.flush()
            data[position:stop] = body
            if kind:
                mark = tag | MIXED
                position = stop
            else:
                position = stop - 1  # the next one overwrites a pickle's STOP
            cell = mark | kind << END_BITS | position
            if in_order:
                cells[at] = cell
            else:
                kernel.store_last(memory.fd, record.HEADER + span.slot * record.SLOT + 8 * at, cell)
            if rows:
                inputs[at] = None
            at += 1
            if at == look_at:
                look_at += self.look()
            if at >= header[end_at] - tag:
                return at
            try:
                value = call(inputs[at])
            except BaseException as error:
                kind, body = FAILURE, outcomes.failure(worker, error, at, span)
                continue
            kind, body = VALUE, b""
            try:
                if not worker.returns_large:
                    body = dumps(value, 3)
            except BaseException:
                pass
            if not 0 < len(body) <= BIG:
                kind, body = self.packed(at, value, body)
            value = None

    def packed(self, at: int, value: Any, body: bytes = b"") -> tuple[int, bytes]:
        """What there is to record of a value that has been pickled in vain, or not yet."""
        worker = self.worker
        kind, body, worker.returns_large = outcomes.awkward(worker, value, body, worker.returns_large, at, self.span)
        return kind, body

    def failed(self, at: int, error: BaseException) -> tuple[int, bytes]:
        """What there is to record of a call that has raised. (No other is to run while its exception is handled.)"""
        return FAILURE, outcomes.failure(self.worker, error, at, self.span)

    def look(self) -> int:
        """Tell the parent now and then that there is more to read; how many calls may pass until the next look."""
        now = clock()
        calls = STRIDE if now - self.looked < outcomes.RING / STRIDE else 1
        self.looked = now
        if now - self.rang > outcomes.RING:
            self.rang = now
            self.worker.look()
        return calls
