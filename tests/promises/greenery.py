"""What greenlet workers run: plain functions that block. Nothing here knows of gevent before it is called."""

import http.client
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from procoro.kernel import original

lock = threading.Lock()
rlock = threading.RLock()
local = threading.local()
shop: "queue.Queue[int]" = queue.Queue()
counted = 0


def gevent() -> Any:
    import gevent

    return gevent


# -------------------------------------------------------------------- each waits so long, and tells the pid


def sleeps(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def runs_a_program(seconds: float) -> int:
    subprocess.run(["sleep", str(seconds)], check=True)
    return os.getpid()


def shell(seconds: float) -> int:
    said = subprocess.check_output(f"sleep {seconds}; echo done", shell=True, text=True)
    assert said == "done\n"
    return os.getpid()


def selects(seconds: float) -> int:
    reader, writer = socket.socketpair()
    with reader, writer:
        assert select.select([reader], [], [], seconds) == ([], [], [])
    return os.getpid()


def polls(seconds: float) -> int:
    reader, writer = socket.socketpair()
    with reader, writer:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        assert poll.poll(seconds * 1000) == []
    return os.getpid()


def reads_a_socket(seconds: float) -> int:
    reader, writer = socket.socketpair()

    def write() -> None:
        time.sleep(seconds)
        writer.sendall(b"done")

    thread = threading.Thread(target=write)
    with reader, writer:
        thread.start()
        assert reader.recv(10) == b"done"
        thread.join()
    return os.getpid()


def waits_for_an_event(seconds: float) -> int:
    assert not threading.Event().wait(seconds)
    return os.getpid()


def waits_for_a_condition(seconds: float) -> int:
    condition = threading.Condition()
    with condition:
        assert not condition.wait(seconds)
    return os.getpid()


def gets_from_a_queue(seconds: float) -> int:
    with_nothing_in_it: queue.Queue[int] = queue.Queue()
    try:
        with_nothing_in_it.get(timeout=seconds)
    except queue.Empty:
        return os.getpid()
    return 0


def gets_from_a_simple_queue(seconds: float) -> int:
    with_nothing_in_it: queue.SimpleQueue[int] = queue.SimpleQueue()
    try:
        with_nothing_in_it.get(timeout=seconds)
    except queue.Empty:
        return os.getpid()
    return 0


def joins_a_thread(seconds: float) -> int:
    thread = threading.Thread(target=time.sleep, args=(seconds,))
    thread.start()
    thread.join()
    return os.getpid()


def forks_and_waits(seconds: float) -> int:
    child = os.fork()
    if child == 0:
        time.sleep(seconds)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    return os.getpid()


def forks_one_that_ends_at_once() -> int:
    """It is dead before anybody here has heard of it."""
    os.register_at_fork(after_in_parent=lambda: original("time", "sleep")(0.2))
    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def waits_for_a_future(seconds: float) -> int:
    with ThreadPoolExecutor(1) as executor:
        executor.submit(time.sleep, seconds).result()
    return os.getpid()


# ---------------------------------------------------------------------------------------------- the web


def fetches(url: str, timeout: float = 20) -> str:
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        text: str = answer.read().decode()
        return text


def fetches_by_http_client(url: str) -> str:
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@contextmanager
def dead_port() -> Iterator[int]:
    """Of nobody: it was somebody's."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server.getsockname()[1]


@contextmanager
def mute_port() -> Iterator[int]:
    """Takes connections, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# -------------------------------------------------------------------------------------- between greenlets


def counts_under_a_lock(seconds: float) -> int:
    global counted
    with lock:
        seen = counted
        time.sleep(seconds)
        counted = seen + 1
        return counted


def count() -> int:
    return counted


def takes_a_recursive_lock(seconds: float) -> int:
    with rlock, rlock:
        time.sleep(seconds)
        return 2


def takes_from_the_shop() -> int:
    return shop.get()


def brings_to_the_shop(thing: int) -> None:
    time.sleep(0.01)
    shop.put(thing)


def keeps_a_local(value: int) -> tuple[Any, int]:
    before = getattr(local, "value", None)
    local.value = value
    time.sleep(0.01)
    return before, local.value


# ------------------------------------------------------------------------------------- what is patched


def is_patched_throughout() -> list[str]:
    """What holds a function that blocks as it was before the patch; none should."""
    monkey = __import__("gevent.monkey").monkey
    blocking = {id(old): f"{module}.{name}" for module, names in monkey.saved.items() for name, old in names.items()}
    found = []
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType) or not hasattr(module, "__file__"):
            continue  # built in: it holds what it always held
        if module.__name__.partition(".")[0] in ("gevent", "greenlet", "procoro"):
            continue
        for name, value in list(vars(module).items()):
            known = blocking.get(id(value))
            if known and callable(value) and known in ("time.sleep", "socket.socket", "select.select", "os.fork"):
                found.append(f"{module.__name__}.{name} is {known}")
    return found


def modules() -> list[str]:
    return [*sys.modules]


# -------------------------------------------------------------------------- greenlets of the call's own


def spawns(i: int) -> list[int]:
    def later(x: int) -> int:
        time.sleep(0.01)
        return x

    tasks = [gevent().spawn(later, 3 * i + j) for j in range(3)]
    return [task.get() for task in tasks]


def spawns_one_that_exits() -> str:
    return _how_it_ends(SystemExit(3))


def spawns_one_that_is_interrupted() -> str:
    return _how_it_ends(KeyboardInterrupt("mine"))


def _how_it_ends(error: BaseException) -> str:
    def fail() -> None:
        raise error

    task = gevent().spawn(fail)
    time.sleep(0.01)
    try:
        task.get()
    except BaseException as raised:
        return f"{type(raised).__name__}: {raised}"
    return "it returned"


def times_out() -> str:
    try:
        with gevent().Timeout(0.01):
            time.sleep(20)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "it returned"


def kills_itself() -> None:
    gevent().getcurrent().kill()
