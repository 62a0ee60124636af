"""Children of the test, made by a plain `os.fork`: they have what the test has, as it stands."""

import mmap
import os
import pickle
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.promises.looks import wait_until

PATIENCE = 20.0  # seconds until a child that says nothing is a failure


class Child:
    """A process that runs one function, and answers with its value or its exception."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._answer, theirs = os.pipe()
        sys.stdout.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # we may have threads: the child needs none of them
            self.pid = os.fork()
        if self.pid == 0:
            os.close(self._answer)
            _live(function, args, theirs)
        os.close(theirs)
        self.status: int | None = None

    def result(self, timeout: float = PATIENCE) -> Any:
        """What the function returned or raised; the child has ended then."""
        deadline, said = time.monotonic() + timeout, b""
        while True:
            if not select.select([self._answer], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"child {self.pid} has not ended within {timeout} s")
            if not (more := os.read(self._answer, 1 << 16)):
                break
            said += more
        self.wait()
        assert said, f"child {self.pid} has ended without an answer: status {self.status}"
        ok, value = pickle.loads(said)
        if not ok:
            raise value
        return value

    def kill(self) -> None:
        """SIGKILL; it is dead when this returns."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """SIGSTOP; it stands when this returns."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: state(self.pid) == "T", f"{self.pid} is stopped")

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> None:
        """Until it is dead."""
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]

    def end(self) -> None:
        """Whatever it does."""
        if self.status is None:
            self.kill()
        os.close(self._answer)


def _live(function: Callable[..., Any], args: tuple[Any, ...], answer: int) -> None:
    try:
        try:
            said = pickle.dumps((True, function(*args)))
        except BaseException as error:
            error.add_note(traceback.format_exc())
            said = pickle.dumps((False, error))
        with open(answer, "wb") as file:
            file.write(said)
    finally:
        os._exit(0)


Fork = Callable[..., Child]


def state(pid: int) -> str:
    """The kernel's letter: R, S, T, Z."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def asleep(child: Child) -> None:
    """Wait until a child has slept for a moment: whatever it has begun, it waits now."""

    def switches() -> tuple[str, str]:
        return state(child.pid), Path(f"/proc/{child.pid}/schedstat").read_text()

    before = switches()

    def rests() -> bool:
        nonlocal before
        time.sleep(0.02)
        then, before = before, switches()
        return then == before and before[0] == "S"

    wait_until(rests, f"{child.pid} sleeps")


class Cells:
    """Whole numbers in memory that we share with our children."""

    def __init__(self, count: int = 8) -> None:
        self._memory = mmap.mmap(-1, 8 * count)
        self._cells = memoryview(self._memory).cast("q")

    def __getitem__(self, place: int) -> int:
        return self._cells[place]

    def __setitem__(self, place: int, value: int) -> None:
        self._cells[place] = value

    def cut(self, start: int, count: int) -> list[int]:
        """Some of them, from `start` on."""
        return self._cells[start : start + count].tolist()

    def wait(self, place: int, least: int = 1) -> None:
        """Until a cell has so high a number."""
        wait_until(lambda: self._cells[place] >= least, f"cell {place} is {least}", PATIENCE)
