"""Lets the parent see that an event loop turns; and where it stands, if it does not."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Callable, MutableMapping

from procoro.wire.record import BEAT, Record

PERIOD = 0.25  # seconds between two beats
SIGNAL = signal.SIGURG  # to which nothing happens where nobody listens


class Heart:
    """Beats while there are calls. At `SIGNAL`, C code writes the stack behind the record, also in a loop in C."""

    def __init__(self, memory: Record, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._header: MutableMapping[int, int] | memoryview[int] = memory.header
        self._call_later = call_later
        self._beating = False
        self._has_work = False
        # Its own description, which appends.
        self._file = open(f"/proc/self/fd/{memory.fd}", "ab", buffering=0)
        faulthandler.register(SIGNAL, self._file, all_threads=False, chain=False)
        os.register_at_fork(after_in_child=self._disown)

    def _disown(self) -> None:
        """In a child that a call has forked: it does not beat for us."""
        self._header = {BEAT: 0}

    def beat_while(self, has_work: object) -> None:
        """Is there anything to do?"""
        self._has_work = bool(has_work)
        if not self._has_work:
            return
        if not self._beating:
            self._beating = True
            self._beat()
        elif not self._header[BEAT]:  # it has rested
            self._header[BEAT] = time.monotonic_ns()

    def rest(self) -> None:
        """The loop is left: it does not turn for now, and nobody waits for it."""
        self._has_work = False
        self._header[BEAT] = 0

    def _beat(self) -> None:
        if not self._has_work:
            self._beating = False
            self._header[BEAT] = 0
            return
        self._header[BEAT] = time.monotonic_ns()
        self._call_later(PERIOD, self._beat)
