"""What chaos has found, each as small as it can be."""

import os
import time

import pytest

from procoro import Pool
from tests.chaos.user import PATIENCE


def close_if_0(x: int) -> int:
    if x == 0:
        os.closerange(3, 256)
        time.sleep(0.005)  # so long that the worker has something to tell before the next call
    return x + x


def test_a_worker_that_cannot_speak_leaves_between_two_calls_and_neither_is_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LONG", "SOONER"):  # nothing is taken back, however slow the machine is
        monkeypatch.setattr(f"procoro.scheduler.scheduler.{name}", 60.0)
    with Pool(1) as pool:
        stream = pool.imap(close_if_0, range(20), chunksize=20)
        assert [stream.next(PATIENCE) for _ in range(20)] == [2 * x for x in range(20)]
        assert pool.map_async(close_if_0, range(1, 20)).get(PATIENCE) == [2 * x for x in range(1, 20)]
