"""What exact recording costs a call of procoro's: the worker's loop over a span, and what the parent reads of it.

Both run here, on a record of their own and in one process, so that nothing waits: no span is sent and no doorbell rung.
"""

import statistics
import time

from benchmarks.pool.measures.agreement import check_all
from benchmarks.pool.workload import noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from benchmarks.pool.systems import Adapter
    from benchmarks.pool.task import Task

SLOT = 0


class Worker:
    """As much of a worker as its loop needs."""

    def __init__(self, memory: "Any") -> None:
        self.memory = memory
        self.printed: list[bool] = []
        self.returns_large = False

    def look(self) -> None:
        """The parent is not told."""


def recording(system: "Adapter", task: "Task") -> "dict[str, float]":
    """Nanoseconds a call: of the worker, the function and its loop taken off; of the parent; of both."""
    from procoro.wire import record
    from procoro.wire.inputs import ONE
    from procoro.worker.loop import Span
    from procoro.worker.models import serial

    memory = record.Record.create()
    worker: Any = Worker(memory)
    inputs = list(range(record.CALLS))
    plain, recorded, read = [], [], []
    deadline = time.perf_counter() + task.seconds
    number = 0
    while time.perf_counter() < deadline:
        number += 1
        span = Span(number, SLOT, ONE, inputs, None, noop, None)
        memory.set_end(SLOT, number, len(inputs))
        plain.append(_plain(inputs))
        began = time.perf_counter_ns()
        serial.run(worker, span)
        recorded.append(time.perf_counter_ns() - began)
        began = time.perf_counter_ns()
        values = _values(record.Recorded(memory, SLOT, number, 0, len(inputs)))
        read.append(time.perf_counter_ns() - began)
        check_all(values, inputs)
    loop, worker_ns, parent_ns = (statistics.median(each) / len(inputs) for each in (plain, recorded, read))
    return {
        "worker_ns": worker_ns - loop,
        "parent_ns": parent_ns,
        "both_ns": worker_ns - loop + parent_ns,
        "calls": number * len(inputs),
    }


def _plain(inputs: "Sequence[int]") -> int:
    """What the same calls take that nobody records."""
    call = noop
    began = time.perf_counter_ns()
    for given in inputs:
        try:
            value = call(given)
        except BaseException:
            raise
        else:
            value  # noqa: B018 - as the worker's loop, it goes on with what came
    return time.perf_counter_ns() - began


def _values(recorded: "Any") -> "list[Any]":
    from procoro.wire.record import FORMATS
    from procoro.wire.values import Numbers

    values: list[Any] = []
    for _, kind, _, _, data in recorded.read():
        values += Numbers(data, FORMATS[kind]).load()
    return values
