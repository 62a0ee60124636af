"""What runs short, runs short by name: descriptors, disks, address space, processes. Then all works again."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from procoro import Pool
from procoro.wire import channel, handles
from tests.gate import Gate
from tests.promises import calls
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE, wait_until

SHORT = """
import errno, os, resource, sys, time
from procoro import Pool, errors
from tests.promises import calls


def exhaust():
    '''Take all descriptors; what gives them back.'''
    kept = []
    try:
        while True:
            kept.append(os.dup(0))
    except OSError:
        return kept


def free(kept):
    while kept:
        os.close(kept.pop())


def said(call):
    '''What a call returns or raises, in a few words.'''
    try:
        return call()
    except (OSError, MemoryError, errors.ProcoroError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
"""


def test_32_descriptors_are_enough(script: Script) -> None:
    said = script(
        """
        import resource
        from procoro import Pool
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        with Pool(2) as pool:
            print(sum(pool.map(abs, range(-1000, 0))), len(pool.submit(bytes, 10 << 20).get(10)))
            print(sum(map(len, pool.imap(bytes, [200_000] * 50))), len(set(map(len, pool.map(bytes, [1 << 20] * 20)))))
        """
    )
    assert said == "500500 10485760\n10000000 1\n"


def test_no_descriptor_when_a_pool_is_made(script: Script) -> None:
    said = script(
        SHORT
        + """
kept = exhaust()
print(said(lambda: Pool(2)))
free(kept)
with Pool(2) as pool:
    print(pool.map(abs, [-1, -2]))
"""
    )
    assert said == "OSError: [Errno 24] Too many open files\n[1, 2]\n"


def test_no_descriptor_when_calls_are_submitted(script: Script) -> None:
    """Small calls need none. A large input does; so does a large result, and it fails alone."""
    said = script(
        SHORT
        + """
with Pool(2) as pool:
    while len(set(pool.map(calls.pid, range(100), 1))) < 2:
        pass  # one that is still starting would give descriptors back
    kept = exhaust()
    large = bytes(200_000)
    many = [pool.submit(calls.double, i) for i in range(1000)]
    print(said(lambda: pool.submit(calls.length, large).get(10)))
    print(said(lambda: pool.map(calls.length, [1 * large])))
    print(said(lambda: next(pool.imap(bytes, [200_000]))))
    long, *behind = [pool.submit(calls.nap, seconds) for seconds in (0.3, 0.1, 0, 0, 0)]  # taken back
    print([one.get(10) for one in behind] == [0.1, 0, 0, 0] and long.get(10) == 0.3)
    print([one.get(10) for one in many] == [2 * i for i in range(1000)])
    free(kept)
    print(pool.submit(calls.length, large).get(10), len(pool.submit(bytes, 200_000).get(10)))
"""
    )
    *errors, other, right, again = said.splitlines()
    assert all(error.startswith("OSError: [Errno 24] Too many open files") for error in errors), errors
    assert (other, right, again) == ("True", "True", "200000 200000")


def test_no_descriptor_when_a_worker_is_to_be_replaced(script: Script) -> None:
    said = script(
        SHORT
        + """
import logging
logging.disable()
with Pool(1) as pool:
    print(pool.submit(calls.double, 1).get(10))
    kept = exhaust()
    print(said(lambda: pool.submit(calls.kill_self).get(10)))
    print(said(lambda: pool.submit(calls.double, 2).get(10)))
    free(kept)
with Pool(1) as pool:
    print(pool.submit(calls.double, 3).get(10))
"""
    )
    first, died, gave_up, again = said.splitlines()
    assert (first, again) == ("2", "6")
    assert died.startswith("WorkerDied"), died
    assert gave_up.startswith("WorkersKeepDying") and "Too many open files" in gave_up, gave_up


WORK = """
import sys
from procoro import Pool
import numpy as np

with Pool(2) as pool:
    print(len(pool.submit(bytes, 10 << 20).get(10)), int(pool.submit(np.arange, 1 << 20).get(10)[-1]))
    print(pool.submit(len, bytes(10 << 20)).get(10), sum(pool.imap(lambda x: x + 1, iter(range(1000)))))
"""
WORKED = "10485760 1048575\n10485760 500500\n"


def test_no_folder_for_temporary_files_and_no_home(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMPDIR", "TEMP", "TMP", "HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, "/dev/null")
    assert script(WORK) == WORKED


def test_a_working_directory_that_is_gone(script: Script) -> None:
    assert script("import os\nos.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n" + WORK) == WORKED


def test_full_and_unwritable_disks(script: Script, tmp_path: Path) -> None:
    """All that large values need is memory: no /dev/shm, no temporary file, no home, no file where we stand."""
    for name in ("full", "unwritable"):
        (tmp_path / name).mkdir()
    mounts = f"""
        set -e
        for place in /dev/shm {tmp_path}/full; do
            mount -t tmpfs -o size=4k tmpfs $place
            head -c 4096 /dev/zero > $place/file
        done
        mount -t tmpfs -o ro tmpfs {tmp_path}/unwritable
    """
    if subprocess.run(["unshare", "--mount", "sh", "-c", mounts], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    said = script(
        """
        import os, subprocess, sys
        here = os.getcwd()
        os.environ.update(TMPDIR=f"{here}/full", HOME=f"{here}/unwritable")
        program = ["unshare", "--mount", "sh", "-c", sys.argv[1] + 'cd unwritable; exec "$0" -c "$1"', sys.executable]
        sys.exit(subprocess.run([*program, sys.argv[2]]).returncode)
        """,
        mounts,
        WORK,
    )
    assert said == WORKED


def test_files_may_not_be_large(script: Script) -> None:
    """`ulimit -f` counts for anonymous memory, too."""
    said = script(
        SHORT
        + """
import signal
resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20,) * 2)
with Pool(1) as pool:
    pid = pool.submit(calls.pid).get(10)
    print(len(pool.submit(bytes, 4 << 20).get(10)))
    print(said(lambda: pool.submit(bytes, 9 << 20).get(10)))
    print(said(lambda: pool.submit(calls.length, bytes(9 << 20)).get(10)))
    print(said(lambda: pool.map(calls.length, [bytes(9 << 20)])))
    print(pool.submit(calls.length, bytes(4 << 20)).get(10), pool.submit(calls.pid).get(10) == pid)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 8 << 20))
import logging
logging.disable()
with Pool(1) as pool:
    print(said(lambda: pool.submit(abs, -1).get(10)))
"""
    )
    small, *large, works, none = said.splitlines()
    assert (small, works) == ("4194304", "4194304 True")
    assert large == ["OSError: [Errno 27] File too large"] * 3
    assert none.startswith("WorkersKeepDying: abs was not run: no worker can be started: [Errno 27]"), none


def test_little_address_space(script: Script) -> None:
    said = script(
        SHORT
        + """
with Pool(1) as pool:
    assert pool.submit(abs, -1).get(10) == 1
    used = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)
    print(said(lambda: len(pool.submit(bytes, 300 << 20).get(10))))
    print(said(lambda: len(pool.submit(bytes, 10 << 20).get(10))))
    print(said(lambda: pool.submit(calls.double, 1).get(10)))
with Pool(1) as pool:
    print(said(lambda: len(pool.submit(bytes, 300 << 20).get(10))))
    print(said(lambda: len(pool.submit(bytes, 10 << 20).get(10))))
    print(said(lambda: pool.submit(calls.double, 1).get(10)))
"""
    )
    parent, *here, worker, fits, works = said.splitlines()
    assert parent.startswith(("OSError: [Errno 12]", "MemoryError")), "it has no room for the result"
    assert worker.partition(":")[0] in ("OSError", "MemoryError", "NotPicklable"), "the worker has the limit, too"
    assert [*here, fits, works] == ["10485760", "2"] * 2


Cgroup = Callable[..., Path]


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """Make a cgroup (v1) with limits; it is removed when those in it have left."""
    made: list[Path] = []

    def make(name: str, **limits: int) -> Path:
        controller = name.split("/")[0]
        folder = Path("/sys/fs/cgroup", controller, f"procoro-{os.getpid()}", *name.split("/")[1:])
        try:
            folder.mkdir(parents=True)
        except OSError:
            pytest.skip(f"no cgroup of {controller} can be made here")
        made.append(folder)
        for file, limit in limits.items():
            (folder / f"{controller}.{file}").write_text(str(limit))
        return folder

    yield make
    for folder in reversed(made):
        wait_until(lambda folder=folder: not (folder / "cgroup.procs").read_text(), f"{folder} is empty")
        folder.rmdir()


JOIN = """
import os, sys, time
with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
"""


def test_no_process_can_be_started(script: Script, cgroup: Cgroup) -> None:
    folder = cgroup("pids", max=20)
    said = script(
        JOIN
        + SHORT
        + """
import logging, os, time
logging.disable()
with Pool(2) as pool:
    print(pool.submit(calls.double, 1).get(10), len({pool.submit(calls.pid).get(10) for _ in range(100)}) <= 2)
    with open(sys.argv[1] + "/pids.max", "w") as file:
        file.write("1")
    for _ in range(2):
        print(said(lambda: pool.submit(calls.kill_self).get(10)))
    print(said(lambda: pool.submit(abs, -1).get(10)))
while open(f"/proc/self/task/{os.getpid()}/children").read():
    time.sleep(0.01)  # the template stays a while for who comes next
print(said(lambda: Pool(1)))
with open(sys.argv[1] + "/pids.max", "w") as file:
    file.write("20")
with Pool(1) as pool:
    print(pool.submit(calls.double, 3).get(10))
""",
        folder,
    )
    words = "Resource temporarily unavailable"
    runs, *died, gave_up, refused, again = said.splitlines()
    assert (runs, again) == ("2 True", "6")
    assert all(death.startswith("WorkerDied: kill_self() [call 0]") for death in died)
    assert gave_up == f"WorkersKeepDying: abs was not run: no worker can be started: {words}"
    assert refused.startswith(f"BlockingIOError: [Errno 11] {words}"), refused


def test_the_memory_of_a_cgroup_and_of_those_around_it(script: Script, cgroup: Cgroup) -> None:
    """What is left in the tightest of them decides; files that are only cached do not count."""
    outer, inner = cgroup("memory", limit_in_bytes=300 << 20), cgroup("memory/inner")
    assert outer == inner.parent
    said = script(
        JOIN
        + """
from procoro import machine
def becomes(least, most):  # the kernel counts now and then
    until = time.monotonic() + 20
    while not (seen := least < machine.memory_left()[0] >> 20 < most) and time.monotonic() < until:
        time.sleep(0.01)
    return seen
print(machine.memory_left()[1] >> 20, becomes(250, 300))
with open("file", "wb") as file:
    file.write(bytes(250 << 20))
    os.fsync(file.fileno())
print(becomes(230, 300))
held = b"x" * (200 << 20)
print(becomes(-1, 150))
""",
        inner,
    )
    assert said == "300 True\nTrue\nTrue\n"


def test_calls_wait_for_room_in_the_cgroup(script: Script, cgroup: Cgroup) -> None:
    folder = cgroup("memory", limit_in_bytes=500 << 20)
    said = script(
        JOIN
        + """
import logging, threading
from procoro import Pool
from tests.promises import calls

said = threading.Event()
class Hear(logging.Handler):
    def emit(self, record):
        print(record.getMessage().split(" of ")[1])
        said.set()
logging.getLogger("procoro").addHandler(Hear())

def hold(size, until):
    held = b"x" * size
    while not os.path.exists(until): pass
    return size

with Pool(2) as pool:
    big = pool.submit(hold, 470 << 20, "free")
    print(said.wait(20))
    waiting = [pool.submit(os.path.exists, "free") for _ in range(10)]
    open("free", "w").close()
    print(big.get(20) >> 20, all(one.get(20) for one in waiting))
""",
        folder,
    )
    assert said == "memory left: no new call is started until there is room\nTrue\n470 True\n"


def test_no_thread_can_be_started_for_an_iterator(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    """The stream ends with that error; all else goes on."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "procoro-feeder":
            raise RuntimeError("can't start new thread")
        start(thread)

    with Pool(2) as pool:
        standing = pool.submit(calls.stand, gate, 5)
        gate.reached()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="new thread"):
                pool.imap(calls.double, iter([1])).next(PATIENCE)
            with pool.imap(calls.double, iter([1])) as stream:
                pass
            del stream
        gate.open()
        assert standing.get(PATIENCE) == 5
        assert list(pool.imap(calls.double, iter([1]))) == [2]


def test_a_handle_that_came_in_part_leaves_no_descriptor() -> None:
    """The kernel drops what finds no room: of a lock's two descriptors, say, the second. The first would stay."""
    came = os.dup(0)
    message = handles.HEAD.pack(channel.HANDLE, 1234, 0, 2)
    assert handles.arrive(message, [came]) == (1234, [])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(came)
