"""What a review found: ends at bad moments, exhausted descriptors, callbacks and forks that would wait for ever."""

import os
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from procoro import Pool, errors
from tests.promises import calls
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE


def test_a_template_that_dies_between_the_fork_and_the_news_of_it(script: Script, tmp_path: Path) -> None:
    """The worker that it had forked lives, unknown to all: nobody else may get its record and its calls."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\n"
        "real, done = os.pidfd_open, os.path.join(os.path.dirname(__file__), 'done')\n"
        "def pidfd_open(pid, flags=0):\n"
        "    if not os.path.exists(done):\n"
        "        open(done, 'w').close()\n"
        "        time.sleep(0.3)\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return real(pid, flags)\n"
        "os.pidfd_open = pidfd_open\n"
    )
    said = script(
        """
        import os, sys, time
        folder = os.path.dirname(os.path.abspath(__file__))
        os.environ["PYTHONPATH"] = folder + os.pathsep + os.environ["PYTHONPATH"]
        from procoro import Pool

        def work(x):
            time.sleep(0.01)
            return os.getpid()

        with Pool(2) as pool:
            print(len(set(pool.map(work, range(100), chunksize=1))))
        print(os.path.exists(os.path.join(folder, "done")))
        """
    )
    assert said == "2\nTrue\n"


@pytest.mark.parametrize("limit", [6, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 20, 32])
def test_few_descriptors(script: Script, limit: int) -> None:
    """It works, or it says what is missing; nothing is left open either way."""
    said = script(
        """
        import gc, os, resource, sys, time
        import procoro.pool
        from procoro import Pool, errors
        procoro.pool._import_the_rest()
        import logging
        logging.disable()
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
        open_before = [fd for fd in range(100) if os.path.exists(f"/dev/fd/{fd}")]
        try:
            with Pool(2) as pool:
                print(pool.map(abs, range(-3, 0)))
        except (OSError, errors.WorkersKeepDying) as error:
            print("Too many open files" in str(error))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if open_before == [fd for fd in range(100) if os.path.exists(f"/dev/fd/{fd}")]:
                break
        else:
            print("left open")
        """,
        limit,
    )
    assert said in ("[3, 2, 1]\n", "True\n")
    assert limit < 32 or said == "[3, 2, 1]\n"


def test_a_large_result_without_a_free_descriptor(script: Script) -> None:
    said = script(
        """
        import os, resource
        from procoro import Pool, errors
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

        with Pool(2) as pool:
            assert len(pool.submit(bytes, 200_000).get()) == 200_000
            kept = []
            try:
                while True:
                    kept.append(os.dup(0))
            except OSError:
                pass
            large = pool.submit(bytes, 200_000)
            error = large.exception(10)
            print(type(error).__name__, pool.submit(abs, -1).get(10))
            for fd in kept:
                os.close(fd)
            print(len(pool.submit(bytes, 200_000).get(10)))
        """
    )
    assert said == "OSError 1\n200000\n"


def test_all_standard_streams_are_closed(script: Script, tmp_path: Path) -> None:
    found = tmp_path / "found"
    script(
        """
        import os, subprocess, sys
        code = '''
        import sys
        from procoro import Pool
        def talk(x):
            print("words")
            return x
        with Pool(2) as pool:
            open(sys.argv[1], "w").write(repr(pool.map_async(talk, range(3)).get(10)))
        '''
        import textwrap
        command = 'exec "$0" -c "$1" "$2" <&- >&- 2>&-'
        subprocess.run(["sh", "-c", command, sys.executable, textwrap.dedent(code), sys.argv[1]], check=True)
        """,
        found,
    )
    assert found.read_text() == "[0, 1, 2]"


@pytest.mark.parametrize("what", [SystemExit(3), KeyboardInterrupt()])
def test_a_callback_that_wants_to_exit(what: BaseException) -> None:
    def leave(_: Any) -> None:
        raise what

    with Pool(1) as pool:
        assert pool.apply_async(abs, (-1,), callback=leave).get(PATIENCE) == 1
        assert pool.map_async(abs, [-1], callback=leave).get(PATIENCE) == [1]
        result = pool.submit(calls.double, 1)
        result.add_done_callback(leave)
        assert result.get(PATIENCE) == 2
        assert pool.submit(abs, -2).get(PATIENCE) == 2


class Leaves:
    def __reduce__(self) -> Any:
        raise SystemExit(3)


def test_an_input_that_exits_while_it_is_packed() -> None:
    with Pool(1) as pool:
        with pytest.raises(errors.NotPicklable, match="SystemExit"):
            pool.map_async(type, [Leaves()]).get(PATIENCE)
        with pytest.raises(errors.NotPicklable, match="SystemExit"):
            pool.imap(type, iter([Leaves()])).next(PATIENCE)
        assert pool.map_async(abs, [-1]).get(PATIENCE) == [1]


def test_a_map_is_not_waited_for_in_a_callback() -> None:
    found: list[BaseException] = []

    def wait(_: Any) -> None:
        try:
            pool.map_async(abs, [-1]).wait()
        except RuntimeError as error:
            found.append(error)

    with Pool(1) as pool:
        pool.apply_async(abs, (-1,), callback=wait).get(PATIENCE)
        assert pool.map_async(abs, [-1]).get(PATIENCE) == [1]
    assert "callback waits" in str(found[0])


def test_a_callback_cancels_and_kills_others() -> None:
    with Pool(1) as pool:
        first, second, third = (pool.submit(calls.nap, seconds) for seconds in (0.2, 100, 100))
        first.add_done_callback(lambda _: (third.cancel(), second.kill()))
        # On a busy machine the second may not have begun when it is killed: then it is cancelled.
        with pytest.raises((errors.CallKilled, CancelledError)):
            second.get(PATIENCE)
        third.wait(PATIENCE)
        assert third.cancelled()


def test_a_forked_child_does_not_wait_for_its_parents_calls(script: Script) -> None:
    said = script(
        """
        import os, time, warnings
        from procoro import Pool, errors

        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn of the fork
        pool = Pool(4)
        result, whole, stream = pool.submit(time.sleep, 2), pool.map_async(time.sleep, [2]), pool.imap(time.sleep, [2])
        child = os.fork()
        if child == 0:
            refused = 0
            waits = [result.get, result.wait, result.exception, whole.get, whole.wait, stream.next]
            for wait in [*waits, lambda: list(stream)]:
                try:
                    wait()
                except errors.PoolClosed as error:
                    refused += "parent process" in str(error)
            print(refused, result.cancel(), result.kill(), flush=True)
            with Pool(1) as own:
                print(own.map(abs, [-1]), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(result.get(), whole.get(), list(stream))
        pool.terminate()
        """
    )
    assert said == "7 False False\n[1]\nNone [None] [None]\n"


@pytest.mark.parametrize("how", ["next", "for"])
def test_many_threads_take_from_one_stream(script: Script, how: str) -> None:
    said = script(
        """
        import sys, threading
        from procoro import Pool
        sys.setswitchinterval(1e-5)

        def take():
            if sys.argv[1] == "for":
                found.extend(list(stream))
                return
            while True:
                try:
                    found.append(stream.next())
                except StopIteration:
                    return

        with Pool(2) as pool:
            for _ in range(3):
                found = []
                stream = pool.imap_unordered(abs, iter(range(20_000)))
                threads = [threading.Thread(target=take) for _ in range(6)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                print(sorted(found) == list(range(20_000)))
        """,
        how,
    )
    assert said == "True\n" * 3


def test_signal_handlers_submit_and_terminate(script: Script) -> None:
    said = script(
        """
        import signal, sys, time
        from procoro import Pool

        def handle(*_):
            signal.setitimer(signal.ITIMER_REAL, 0)
            mine.append(pool.submit(pow, len(mine), 2))
            signal.setitimer(signal.ITIMER_REAL, 0.0005)

        pool, mine, theirs = Pool(2), [], []
        pool.apply(pow, (2, 2))
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            theirs.append(pool.submit(pow, len(theirs), 1))
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(all(result.get() == i for i, result in enumerate(theirs)))
        print(all(result.get() == i * i for i, result in enumerate(mine)), len(mine) > 10)

        def leave(*_):
            pool.terminate()
            print("left", flush=True)
            sys.exit(0)

        signal.signal(signal.SIGALRM, leave)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        while True:
            pool.submit(abs, -1)
        """
    )
    assert said == "True\nTrue True\nleft\n"


def test_a_state_that_does_not_pickle(script: Script) -> None:
    """Workers that cannot be started are an error in words, not a wait for ever."""
    said = script(
        """
        import logging, sys
        logging.disable()
        from procoro import Pool, errors
        sys.argv.append(lambda: None)
        with Pool(1) as pool:
            try:
                pool.map_async(abs, [-1]).get(20)
            except errors.WorkersKeepDying as error:
                print("no worker can be started" in str(error))
        """
    )
    assert said == "True\n"


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            Pool(1)
    with Pool(1) as pool:
        assert pool.map_async(abs, [-1]).get(PATIENCE) == [1]


def test_a_function_that_is_packed_after_the_end() -> None:
    """The descriptor of the pool's library may belong to another file by then: nothing is written to it."""
    pool = Pool(1)
    fd = pool._conductor.library.fd
    pool.terminate()
    other = os.open("/dev/zero", os.O_WRONLY)
    if other != fd:
        os.dup2(other, fd)
        os.close(other)
    try:
        with pytest.raises(errors.PoolClosed):
            pool.submit(calls.double, -1)
    finally:
        os.close(fd)


def test_what_comes_after_the_end_of_the_crank_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that had passed the door when another ended the pool finds its call ended, not forgotten."""
    pool = Pool(1)
    conductor = pool._conductor
    pool.submit(abs, -1)  # its function is packed
    pool.terminate()
    conductor.crank.thread.join(PATIENCE)
    monkeypatch.setattr(pool, "_check_running", lambda: None)
    for late in (pool.submit(abs, -1), pool.map_async(abs, [-1])):
        with pytest.raises(errors.PoolTerminated):
            late.get(PATIENCE)
    looks = iter([False])  # it had not ended yet when `ask` looked
    monkeypatch.setattr(conductor, "ended", SimpleNamespace(is_set=lambda: next(looks, True)))
    assert not conductor.ask(1, 0, kill=True)
