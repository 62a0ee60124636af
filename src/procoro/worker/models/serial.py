"""One call at a time, in order."""

from __future__ import annotations

import os
from pickle import dumps  # by name: calls may patch the modules
from time import perf_counter as clock
from typing import TYPE_CHECKING

from procoro import kernel
from procoro.wire import record
from procoro.wire.blocks import BIG
from procoro.worker import outcomes

if TYPE_CHECKING:
    from procoro.worker.loop import Span, Worker


def run(worker: Worker, span: Span) -> int:
    """Run the calls of a span until its end, which the parent may draw nearer; how many were run.

    Every outcome is recorded before the next call begins: first its bytes, then, by one store, its cell.
    """
    memory, call, inputs, slot, number = worker.memory, span.call, span.inputs, span.slot, span.number
    header, cells, data = memory.header, memory.cells[slot], memory.data[slot]
    end_at, tag = record.ENDS + slot, number << record.SPAN_BITS
    room, position, here = record.DATA - 8 * len(inputs), 0, tag  # always space to name a block
    printed, in_order, big = worker.printed, kernel.STORES_IN_ORDER, worker.returns_large
    rang = clock()
    for given in inputs:
        if header[end_at] <= here:
            break
        kind, body = record.VALUE, b""
        try:
            value = call(given)
        except BaseException as error:
            kind, body = record.FAILURE, outcomes.failure(worker, error, given, span)
        else:
            if not big:
                try:
                    body = dumps(value, 3)
                except BaseException:
                    body = b""
            if not body or len(body) > BIG:
                kind, body, big = outcomes.awkward(worker, value, body, big, given, span)
                worker.returns_large = big
            value = None
        stop = position + len(body) - (not kind)  # the next one overwrites a pickle's STOP
        if stop >= room:
            kind, body = outcomes.into_block(worker, kind, body)
            stop = position + len(body)
        if printed:
            worker.flush()
        data[position : position + len(body)] = body
        position = stop
        if in_order:
            cells[here - tag] = tag | kind << record.END_BITS | stop
        else:
            _commit(memory, slot, here - tag, tag | kind << record.END_BITS | stop)
        here += 1
        now = clock()
        if now - rang > outcomes.RING:
            rang = now
            worker.look()
    return here - tag


def _commit(memory: record.Record, slot: int, index: int, cell: int) -> None:
    """Where stores may be seen out of order: a system call, which orders them."""
    os.pwrite(memory.fd, cell.to_bytes(8, "little"), record.HEADER + slot * record.SLOT + 8 * index)
