"""One call at a time, in order."""

from __future__ import annotations

from collections.abc import Iterable
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
PLAIN = {int: INT, float: FLOAT, str: TEXT}


def run(worker: Worker, span: Span) -> int:
    """Run the calls of a span until its end, which the parent may draw nearer; how many were run.

    Every outcome is recorded before the next call begins: first the outcome, then, by one store, its cell.
    """
    memory, call, slot = worker.memory, span.call, span.slot
    inputs: Iterable[Any] = span.inputs if span.packed is None else map(span.take, range(len(span.inputs)))
    header, cells, data = memory.header, memory.cells[slot], memory.data[slot]
    end_at, tag = record.ENDS + slot, span.number << record.SPAN_BITS
    room = record.DATA - 8 * len(span.inputs)  # always space to name a block
    printed, in_order, big = worker.printed, kernel.STORES_IN_ORDER, worker.returns_large
    at, position, end, stop_at, mark, cell = 0, 0, 0, 0, tag, tag
    plain: Any = None  # the type of what all calls have returned so far, if that needs no pickling
    numbers: Any = None
    looked = rang = clock()
    unseen = 1  # calls until the next look at the clock
    for given in inputs:
        if header[end_at] != end:
            end = header[end_at]
            stop_at = end - tag
        if at >= stop_at:
            break
        try:
            value = call(given)
        except BaseException as error:
            kind, body, plain = FAILURE, outcomes.failure(worker, error, at, span), None
        else:
            body = b""
            if type(value) is not plain:
                plain = None
                if not at and type(value) in PLAIN:
                    plain = type(value)
                    cell = tag | PLAIN[plain] << END_BITS
                    if PLAIN[plain] in FORMATS:
                        numbers = memory.numbers[slot].cast(FORMATS[PLAIN[plain]])
            if plain is None:
                pass
            elif numbers is not None:
                if printed:
                    worker.flush()
                try:
                    numbers[at] = value
                except ValueError:  # more than 64 bits
                    plain = None
            else:
                if len(value) < BIG:  # else it would be copied twice in vain
                    try:
                        kind, body = TEXT, (value + "\0").encode()
                    except Exception:  # half a surrogate pair, or no memory
                        pass
                if not 0 < len(body) <= BIG or position + len(body) > room or "\0" in value:
                    body, plain = b"", None
            if plain is None:
                kind = VALUE
                try:
                    if not big:
                        body = dumps(value, 3)
                except BaseException:
                    pass
                if not 0 < len(body) <= BIG:
                    kind, body, big = outcomes.awkward(worker, value, body, big, at, span)
                    worker.returns_large = big
            value = None
        if body:
            stop = position + len(body)
            if stop > room:
                kind, body = outcomes.into_block(worker, kind, body)
                stop = position + len(body)
            if printed:
                worker.flush()
            data[position:stop] = body
            position = stop if kind else stop - 1  # the next one overwrites a pickle's STOP
            if kind and plain is None:
                mark = tag | MIXED
            cell = mark | kind << END_BITS | position
        if in_order:
            cells[at] = cell
        else:
            kernel.store_last(memory.fd, record.HEADER + slot * record.SLOT + 8 * at, cell)
        at += 1
        unseen -= 1
        if not unseen:
            now = clock()
            unseen = STRIDE if now - looked < outcomes.RING / STRIDE else 1
            looked = now
            if now - rang > outcomes.RING:
                rang = now
                worker.look()
    return at
