"""Stop a worker at a named point, instead of sleeping and hoping.

Workers are no children of the test: no pipe can be inherited. So a gate is two FIFOs in a folder
that both sides can name, and a gate travels by its path.
"""

import errno
import os
import select
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = 16  # bytes of one "here": the pid, padded, so that a write is whole and a read is one writer's


class Gate:
    """A place in a call where a worker stands until the test lets it through.

    >>> def call(gate):
    ...     gate.pass_through()
    >>> result = pool.submit(call, gate)
    >>> pid = gate.reached()      # from here on it is certain that the call runs, in process `pid`
    >>> os.kill(pid, signal.SIGKILL)
    """

    def __init__(self, folder: Path | str) -> None:
        """Build a gate in `folder`, which is made if need be and holds no other gate."""
        self.folder = os.fspath(folder)
        os.makedirs(self.folder, exist_ok=True)
        os.mkfifo(self._path("here"))
        os.mkfifo(self._path("go"))
        # Read and write: our own end keeps a FIFO open while workers come, go and die.
        self._here = os.open(self._path("here"), os.O_RDWR | os.O_NONBLOCK)
        self._go = os.open(self._path("go"), os.O_RDWR | os.O_NONBLOCK)
        self._standing: deque[int] = deque()

    def __reduce__(self) -> tuple[type["Turnstile"], tuple[str]]:
        return Turnstile, (self.folder,)

    def pass_through(self) -> None:
        """Say "here" and wait to be let through. (A copy of the gate, in a worker or a thread, does this.)"""
        Turnstile(self.folder).pass_through()

    def reached(self, timeout: float = 20.0) -> int:
        """Wait until somebody stands at the gate; return its pid. Each who came is told once, in turn."""
        deadline = time.monotonic() + timeout
        while not self._standing:
            left = deadline - time.monotonic()
            assert left > 0, f"nobody reached the gate {self.folder} within {timeout} s"
            if select.select([self._here], [], [], left)[0]:
                said = os.read(self._here, 64 * HERE)
                self._standing.extend(int(said[at : at + HERE]) for at in range(0, len(said), HERE))
        return self._standing.popleft()

    def open(self, times: int = 1) -> None:
        """Let `times` through: those who stand here, else those who come next."""
        os.write(self._go, b"." * times)

    def close(self) -> None:
        """Take the gate away: all who stand at it, and all who come later, go through."""
        for descriptor in (self._here, self._go):
            if descriptor >= 0:
                os.close(descriptor)
        self._here = self._go = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)


class Turnstile:
    """The worker's side of a gate: what a `Gate` is when it arrives."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def pass_through(self) -> None:
        """Say "here" and wait to be let through; go on at once when the gate was taken away."""
        # Our reading end comes first, so that no `open()` that follows our "here" can miss us.
        go = os.open(os.path.join(self.folder, "go"), os.O_RDONLY | os.O_NONBLOCK)
        try:
            if self._say_here():
                os.set_blocking(go, True)
                os.read(go, 1)  # a byte: let through. No byte: nobody can open it any more
        finally:
            os.close(go)

    def _say_here(self) -> bool:
        try:
            here = os.open(os.path.join(self.folder, "here"), os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody listens
                return False
            raise
        try:
            os.write(here, str(os.getpid()).encode().ljust(HERE))
        except BrokenPipeError:  # the gate was taken away since then
            return False
        finally:
            os.close(here)
        return True
