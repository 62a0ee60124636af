"""A real Jupyter kernel: cells define, define again, print, wait, are interrupted; and nothing outlives the kernel."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.gate import Gate
from tests.programs import ROOT
from tests.promises.conftest import PATIENCE
from tests.promises.looks import gone, wait_until

pytest.importorskip("ipykernel")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


class Notebook:
    """A kernel, and the client that sends it cells."""

    def __init__(self, folder: Path) -> None:
        import zmq
        from jupyter_client.manager import KernelManager

        # ipykernel leaves descriptors 1 and 2 alone where it believes to be tested itself.
        skipped = ("PYTEST_CURRENT_TEST", "PYTHONUNBUFFERED")
        environment = {name: value for name, value in os.environ.items() if name not in skipped}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.words = open(folder / "terminal", "w+")
        self.context: Any = zmq.Context()
        self.manager: Any = KernelManager(context=self.context, transport="ipc", ip=str(folder / "kernel"))
        settings = {"PYTHONPATH": path, "IPYTHONDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder)}
        self.manager.start_kernel(
            env={**environment, **settings}, cwd=str(folder), stdout=self.words, stderr=self.words
        )
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.pid)

    def send(self, code: str) -> str:
        """Start a cell; its number."""
        return str(self.client.execute(code))

    def outcome(self, cell: str, until: Callable[[str], bool] = lambda said: True) -> str:
        """What a cell printed, its value, or the name of its error. `until`: output may come a moment later."""
        said, idle, deadline = "", False, time.monotonic() + PATIENCE
        while not (idle and until(said)):
            message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            content = message["content"]
            if message["parent_header"].get("msg_id") != cell:
                continue
            if message["msg_type"] == "stream":
                said += content["text"]
            elif message["msg_type"] in ("execute_result", "display_data"):
                said += content["data"]["text/plain"]
            elif message["msg_type"] == "error":
                said += content["ename"]
            idle = idle or content.get("execution_state") == "idle"
        return said

    def run(self, code: str, until: Callable[[str], bool] = lambda said: True) -> str:
        return self.outcome(self.send(code), until)

    def family(self) -> list[int]:
        """The pids of all that the kernel has started."""
        return [process.pid for process in psutil.Process(self.pid).children(recursive=True)]

    def close(self) -> None:
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self.context.destroy(linger=0)
        self.words.close()


@pytest.fixture(scope="module", autouse=True)
def event_loop() -> Iterator[None]:
    """The one that jupyter's blocking client makes at its first use, and keeps."""
    from jupyter_core.utils import ensure_event_loop

    loop = ensure_event_loop()
    yield
    loop.close()


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    notebook = Notebook(tmp_path)
    yield notebook
    notebook.close()


def test_cells_define_and_define_again(notebook: Notebook, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "K = 7\n"
        "class Run: pass\n"
        "def times(x): return x * K\n"
        "def make(x): return Run()\n"
        "if __name__ == '__main__':\n"
        "    from procoro import Pool\n"
        "    with Pool(1) as own: print(own.map(times, [1, 2]), type(own.map(make, [1])[0]) is Run)\n"
    )
    cells = [
        ("from procoro import Pool\npool = Pool(2)", ""),
        ("N = 1\ndef f(x): return x * N", ""),
        ("pool.map(f, [1, 2, 3])", "[1, 2, 3]"),
        ("N = 2\npool.map(f, [1, 2, 3]), pool.submit(f, 4).get(), list(pool.imap(f, [5]))", "([2, 4, 6], 8, [10])"),
        ("def f(x): return -x * N\npool.map(lambda x: f(x), [1, 2, 3])", "[-2, -4, -6]"),
        ("class A:\n    def __init__(self, x): self.x = x", ""),
        ("old = pool.apply(A, (1,))\ntype(old) is A", "True"),
        ("class A:\n    def __init__(self, x): self.x = -x", ""),
        ("new = pool.apply(A, (1,))\ntype(new) is A, type(old) is A, new.x", "(True, False, -1)"),
        ("await pool.submit(f, 4)", "-8"),
        ("[value async for value in pool.imap(f, range(3))]", "[0, -2, -4]"),
        ("async with Pool(1) as other:\n    print(await other.map_async(f, [1]))", "[-2]\n"),
        ("%run program.py", "[7, 14] True\n"),
        ("pool.map(times, [3]), type(pool.map(make, [1])[0]) is Run", "([21], True)"),
        ("%run -i program.py", "[7, 14] True\n"),
        ("pool.submit(lambda: 1 / 0).get()", "ZeroDivisionError"),
        ("pool.map(f, [1])", "[-2]"),
    ]
    for cell, said in cells:
        assert notebook.run(cell) == said, cell


def test_what_workers_print_is_seen_in_the_cell(notebook: Notebook) -> None:
    notebook.run(
        "import os, sys\nfrom procoro import Pool\npool = Pool(2)\n"
        "def say(x):\n    print('said', x)\n    print('error', x, file=sys.stderr)\n    os.system(f'echo program {x}')"
    )
    words = sorted(f"{word} {x}" for word in ("said", "error", "program") for x in range(3))
    for cell in ("_ = pool.map(say, range(3))", "for x in range(3): pool.submit(say, x).get()"):
        said = notebook.run(cell, until=lambda said: said.count("\n") >= 9)
        assert sorted(said.splitlines()) == words


def test_an_interrupted_cell_ends_its_wait_and_the_pool_goes_on(notebook: Notebook, gate: Gate) -> None:
    notebook.run("from procoro import Pool\nfrom tests.gate import Turnstile\nfrom tests.promises import calls")
    notebook.run(f"pool, gate = Pool(2), Turnstile({gate.folder!r})\ndef f(x): return x + 1")
    waits = (
        "result = pool.submit(calls.stand, gate, 'value'); result.get()",
        "pool.map(calls.stand, [gate])",
        "next(pool.imap(calls.stand, [gate]))",
    )
    for wait in waits:
        cell = notebook.send(wait)
        worker = gate.reached()
        notebook.manager.interrupt_kernel()
        assert notebook.outcome(cell) == "KeyboardInterrupt", wait
        assert not gone(worker), "the call goes on"
        gate.open()
        assert notebook.run("pool.map(f, [1, 2, 3])") == "[2, 3, 4]"
    assert notebook.run("result.get()") == "'value'"


def test_a_kernel_that_is_started_again_leaves_no_worker(notebook: Notebook) -> None:
    busy = (
        "from procoro import Pool\nfrom tests.promises import calls\npool = Pool(2)\n"
        "results = [pool.submit(calls.spin) for _ in range(3)]"
    )
    notebook.run(busy)
    family = notebook.family()
    assert family
    notebook.manager.restart_kernel(now=True)
    notebook.client.wait_for_ready(timeout=PATIENCE)
    wait_until(lambda: all(map(gone, family)), "all of the first kernel are gone", 2)
    notebook.run(busy)
    family = notebook.family()
    os.kill(notebook.pid, signal.SIGKILL)
    wait_until(lambda: all(map(gone, family)), "all of the second kernel are gone", 2)


def test_a_kernel_that_is_shut_down_leaves_no_worker(notebook: Notebook) -> None:
    """In good order: it is asked to leave, and ends its children itself."""
    notebook.run(
        "from procoro import Pool\nfrom tests.promises import calls\npool = Pool(2)\nr = pool.submit(calls.spin)"
    )
    family = notebook.family()
    notebook.manager.shutdown_wait_time = 1.0
    notebook.manager.shutdown_kernel()
    wait_until(lambda: all(map(gone, family)), "all that it had started are gone", 2)
    assert "procoro" not in Path(notebook.words.name).read_text()
