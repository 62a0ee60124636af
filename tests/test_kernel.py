"""Calls to the kernel, where it refuses them."""

import pytest

from procoro import kernel

pytestmark = pytest.mark.pure


def test_a_barrier_while_no_descriptor_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(command: int) -> int:
        raise OSError(24, "Too many open files", "ctypes")

    monkeypatch.setattr(kernel, "_membarrier", refuse)
    kernel.barrier()  # the slow way
