"""model="greenlets": what blocks, runs beside its like, unchanged; in workers only, patched before all else."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from tests.promises import crowds, greenery
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE

WAITS = 0.3  # seconds that each call waits
CALLS = 20
MOST = WAITS * CALLS / 2  # seconds: one after another, they would take twice as long


class Slow(BaseHTTPRequestHandler):
    """Answers late."""

    def do_GET(self) -> None:
        time.sleep(WAITS)
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    request_queue_size = 100
    daemon_threads = False  # so that they are joined


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server each of whose answers takes its time."""
    with Server(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


# ---- what waits, lets others run


@pytest.mark.parametrize(
    "function",
    [
        greenery.sleeps,
        greenery.runs_a_program,
        greenery.shell,
        greenery.selects,
        greenery.polls,
        greenery.reads_a_socket,
        greenery.waits_for_an_event,
        greenery.waits_for_a_condition,
        greenery.gets_from_a_queue,
        greenery.gets_from_a_simple_queue,
        greenery.joins_a_thread,
        greenery.waits_for_a_future,
    ],
    ids=lambda function: function.__name__,
)
def test_what_blocks_is_cooperative(function: Callable[[float], Any]) -> None:
    with Pool(1, model="greenlets", concurrency=CALLS) as pool:
        pid = pool.apply(crowds.pid)
        began = time.monotonic()
        assert pool.map(function, [WAITS] * CALLS) == [pid] * CALLS
        assert WAITS <= time.monotonic() - began < MOST


def test_fork_and_waitpid_are_cooperative() -> None:
    with Pool(1, model="greenlets") as pool:
        naps = pool.map_async(greenery.sleeps, [0.01] * 20)
        forks = pool.map_async(greenery.forks_and_waits, [2 * WAITS] * 4)
        pid = pool.apply(crowds.pid)
        assert naps.get(PATIENCE) == [pid] * 20 and not forks.ready()
        began = time.monotonic()
        assert forks.get(PATIENCE) == [pid] * 4
        assert time.monotonic() - began < 4 * 2 * WAITS


def test_the_first_child_may_end_at_once() -> None:
    """gevent listens for the end of children from the first one on, which might be too late for that."""
    with Pool(1, model="greenlets") as pool:
        assert pool.submit(greenery.forks_one_that_ends_at_once).get(PATIENCE) == 7


@pytest.mark.parametrize("function", [greenery.fetches, greenery.fetches_by_http_client])
def test_urllib_is_cooperative(port: int, function: Callable[[str], str]) -> None:
    with Pool(1, model="greenlets", concurrency=CALLS) as pool:
        pool.apply(function, (f"http://127.0.0.1:{port}/first",))
        began = time.monotonic()
        found = pool.map(function, [f"http://127.0.0.1:{port}/page{i}" for i in range(CALLS)])
        assert found == [f"/page{i}" for i in range(CALLS)]
        assert WAITS <= time.monotonic() - began < MOST


def test_a_site_that_is_dead_harms_no_other(port: int) -> None:
    """A server that takes no connection, one that is not there, and one that says nothing."""
    with greenery.dead_port() as refuses, greenery.mute_port() as mute, Pool(1, model="greenlets") as pool:
        urls = [f"http://127.0.0.1:{one}/" for one in (refuses, mute, port, port)]
        results = [pool.submit(greenery.fetches, url, 2 * WAITS) for url in urls]
        assert [result.get(PATIENCE) for result in results[2:]] == ["/", "/"]
        assert isinstance(results[0].exception(PATIENCE), OSError)
        assert isinstance(results[1].exception(PATIENCE), TimeoutError)


def test_locks_are_taken_in_turn() -> None:
    """One is made when the user's module is imported: gevent has patched `threading` by then."""
    with Pool(1, model="greenlets", concurrency=CALLS) as pool:
        counts = pool.map(greenery.counts_under_a_lock, [0.002] * 100)
        assert sorted(counts) == [*range(1, 101)]
        assert pool.apply(greenery.count) == 100
        assert pool.map(greenery.takes_a_recursive_lock, [0.001] * CALLS) == [2] * CALLS


def test_greenlets_hand_things_to_each_other() -> None:
    with Pool(1, model="greenlets", concurrency=2 * CALLS) as pool:
        gets = [pool.submit(greenery.takes_from_the_shop) for _ in range(CALLS)]
        puts = [pool.submit(greenery.brings_to_the_shop, i) for i in range(CALLS)]
        assert sorted(result.get(PATIENCE) for result in gets) == [*range(CALLS)]
        assert [result.get(PATIENCE) for result in puts] == [None] * CALLS


def test_thread_locals_are_of_each_call() -> None:
    with Pool(1, model="greenlets", concurrency=CALLS) as pool:
        assert pool.map(greenery.keeps_a_local, range(100)) == [(None, i) for i in range(100)]


# ---- who is patched, and when


def test_all_is_patched_before_anything_else_is_imported() -> None:
    with Pool(1, model="greenlets") as pool:
        assert pool.apply(greenery.is_patched_throughout) == []


def test_the_template_has_no_hub(script: Script) -> None:
    """A worker's hub is made after the fork: one that was copied would share what it listens to with its like."""
    printed = script(
        """
        import sys
        from procoro import Pool

        found = []

        def look():
            hub = sys.modules["gevent._hub_local"].get_hub_if_exists()
            found.append(None if hub is None else type(hub).__name__)
            return found

        with Pool(1, look, model="greenlets") as pool:
            print(pool.apply(look))
        """
    )
    assert printed == "[None, 'Hub']\n"


def test_others_in_the_same_program_are_not_patched() -> None:
    with Pool(1, model="greenlets") as patched, Pool(1) as plain, Pool(1, model="threads") as threads:
        assert patched.apply(crowds.is_patched)
        assert not plain.apply(crowds.is_patched) and not threads.apply(crowds.is_patched)
        assert not crowds.is_patched()
        assert "gevent.monkey" not in plain.apply(greenery.modules)


def test_the_caller_does_not_even_import_gevent(script: Script) -> None:
    printed = script(
        """
        import sys, time, socket, threading
        from procoro import Pool

        with Pool(1, model="greenlets") as pool:
            print(pool.map(lambda x: time.sleep(0.001) or x, range(3)), pool.apply(lambda: "gevent" in sys.modules))
        print("gevent" in sys.modules, "asyncio" in sys.modules, "greenlet" in sys.modules)
        """
    )
    assert printed == "[0, 1, 2] True\nFalse False False\n"


# ---- greenlets of the user's own


def test_calls_may_spawn_greenlets() -> None:
    with Pool(1, model="greenlets") as pool:
        pid = pool.apply(crowds.pid)
        assert pool.map(greenery.spawns, range(20)) == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(20)]
        assert pool.apply(greenery.spawns_one_that_exits) == "SystemExit: 3"
        assert pool.apply(greenery.spawns_one_that_is_interrupted) == "KeyboardInterrupt: mine"
        assert pool.apply(greenery.times_out) == "Timeout: 0.01 seconds"
        assert pool.apply(crowds.pid) == pid


def test_a_call_may_end_itself() -> None:
    """GreenletExit is a BaseException as any: it arrives as itself."""
    with Pool(1, model="greenlets") as pool:
        error: Any = pool.submit(greenery.kills_itself).exception(PATIENCE)
        assert type(error).__name__ == "GreenletExit" and not isinstance(error, Exception)
        assert pool.apply(crowds.add, (1, 2)) == 3


def test_a_program_of_blocking_calls(script: Script, tmp_path: Path) -> None:
    """Its modules, its __main__ and its initializer: all of them were patched before they were loaded."""
    (tmp_path / "theirs.py").write_text(
        "import threading, time\n"
        "from time import sleep\n"
        "lock = threading.Lock()\n"
        "def work(x):\n"
        "    with lock:\n"
        "        sleep(0.001)\n"
        "    sleep(0.3)\n"
        "    return x\n"
    )
    printed = script(
        """
        import time
        from procoro import Pool
        import theirs
        from theirs import work
        from time import sleep

        def begin(): sleep(0.01)
        def mine(x): sleep(0.3); return x

        with Pool(1, begin, model="greenlets") as pool:
            for function in (work, mine):
                began = time.monotonic()
                print(sum(pool.map(function, range(20))), time.monotonic() - began < 3)
        """
    )
    assert printed == "190 True\n190 True\n"
