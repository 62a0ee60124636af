"""Arguments and results: what travels is the same thing there; what cannot is refused at the call, with its path."""

import asyncio
import collections
import contextvars
import ctypes
import functools
import multiprocessing
import os
import pickle
import queue
import socket
import sqlite3
import ssl
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from procoro import Pool, errors
from procoro.errors import NotPicklable
from procoro.wire import inputs
from tests.gate import Gate
from tests.promises import calls
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE, errors_in, outcomes


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        pool.submit(abs, -1).get(PATIENCE)  # the worker is here
        yield pool


def same(*args: Any, **kwargs: Any) -> Any:
    return (args, kwargs) if kwargs else args if len(args) > 1 else args[0]


class Node:
    def __init__(self, *held: Any) -> None:
        self.held = held


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held


class Stubborn:
    """Packing it raises this."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


class StubbornState(Node):
    def __getstate__(self) -> Any:
        return {"odd": self.held}


class Thread(threading.Thread):
    pass


class Endless:
    def __getattr__(self, name: str) -> Any:
        return getattr(self.other, name)  # which is not there either

    def __reduce__(self) -> Any:
        return self.__reduce__()


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


# ---------------------------------------------------------------------------------------- what travels


def test_structures_that_hold_themselves(pool: Pool) -> None:
    items: list[Any] = [1]
    items.append(items)
    table: dict[str, Any] = {}
    table["self"] = table
    node = Node()
    node.held = (node, {"a": node}, {node})  # type: ignore[assignment]
    for back in (pool.submit(same, items).get(), pool.map(same, [items])[0], next(pool.imap(same, iter([items])))):
        assert back[1] is back and back[0] == 1
    back = pool.submit(same, table).get()
    assert back["self"] is back
    back = pool.submit(same, node).get()
    assert back.held[0] is back.held[1]["a"] is back.held[2].pop() is back and type(back) is Node


def test_what_is_shared_within_one_call_is_shared_there(pool: Pool) -> None:
    shared = [1]
    assert pool.submit(lambda a, b, *, c: a is b is c, shared, shared, c=shared).get()
    assert pool.starmap(lambda a, b: a is b, [(shared, shared)]) == [True]
    assert pool.map(lambda pair: pair[0] is pair[1], [(shared, shared)]) == [True]
    # and between two calls, nothing is:
    assert pool.map(lambda x: x.append(2) or len(x), [shared, shared], chunksize=2) == [2, 2]
    assert shared == [1]


class Row(NamedTuple):
    number: int
    name: str


ROWS: list[list[Any]] = [
    [{"id": number, "name": f"row {number}", "score": number / 2, "none": None} for number in range(300)],
    [[number, b"x" * number] for number in range(300)],
    [(number, True, "ü" * number) for number in range(300)],
    [{number: number} for number in range(200)] + [{}],  # the last is empty
    [[]] * 300,
    [{"wide": 0, **dict.fromkeys(range(100), 1.5)}] * 40,
    [{"long": "x" * 300_000}, {"long": b"y" * 300_000}, {"short": 1}] * 3,
    [Row(1, "a"), Row(2, "b")],
    [collections.OrderedDict(b=1, a=2), collections.Counter("aab"), collections.defaultdict(int, a=3)],
    [{"a": 1}, [1], (1,), 1, "a", None],
    [{"a": 1}, {"a": [1]}, {"a": {"b": 2}}],
    [[1], [[1], (2, [3])]],
    [{("a", 1): 1}, {frozenset((1,)): 2}],
]


@pytest.mark.parametrize("model", ["serial", "threads"])
@pytest.mark.parametrize("rows", ROWS, ids=range(len(ROWS)))
def test_rows(model: str, rows: list[Any]) -> None:
    with Pool(1, model=model) as pool:
        for back in (
            pool.map(same, rows, chunksize=10),
            list(pool.imap(same, rows)),
            list(pool.imap(same, iter(rows))),
            pool.starmap(same, [(row,) for row in rows]),
            [pool.submit(same, row).get() for row in rows[-3:]],
        ):
            expected = rows[-len(back) :]
            assert back == expected and list(map(type, back)) == list(map(type, expected))
            assert [list(one) for one in back if isinstance(one, dict)] == [
                list(one) for one in expected if isinstance(one, dict)
            ], "in their order"


def spoil(row: Any) -> int:
    """It changes what it was given, as it was given for the first time."""
    if isinstance(row, list):
        row.append("spoilt")
        return len(row)
    row["spoilt"] = True
    return len(row)


@pytest.mark.parametrize("row", [{"a": 1, "b": 2}, [1, 2]], ids=["dict", "list"])
def test_each_call_has_a_row_of_its_own(pool: Pool, row: Any) -> None:
    assert pool.map(spoil, [row] * 50, chunksize=50) == [3] * 50
    assert list(pool.imap(spoil, [row] * 50)) == list(pool.imap(spoil, iter([row] * 50))) == [3] * 50
    assert len(row) == 2


def spoil_and_raise(row: Any) -> None:
    spoil(row)
    if len(row) > 3:
        raise AssertionError("not as it was")
    raise ValueError("spoilt")


@pytest.mark.parametrize("model", ["serial", "threads"])
@pytest.mark.parametrize("rows", [[{"a": n, "b": 2} for n in range(50)], [[n, 2] for n in range(50)]])
def test_an_error_tells_the_row_as_it_was(model: str, rows: list[Any]) -> None:
    with Pool(1, model=model, retries=1) as pool:
        for outcome, row in zip(outcomes(pool.imap(spoil_and_raise, rows)), rows, strict=True):
            assert isinstance(outcome, ValueError) and (call := errors.failed_call(outcome)) and call.input == repr(row)


class Tracked:
    living = 0

    def __init__(self) -> None:
        Tracked.living += 1

    def __del__(self) -> None:
        Tracked.living -= 1


def keeps_in_its_row(row: Any) -> int:
    """How many are alive that calls have put into their rows, this one's too."""
    row["kept"] = Tracked()
    return Tracked.living


@pytest.mark.parametrize("model", ["serial", "threads"])
def test_what_a_call_puts_into_its_row_goes_with_it(model: str) -> None:
    with Pool(1, model=model, concurrency=None if model == "serial" else 1) as pool:
        assert max(pool.map(keeps_in_its_row, [{"a": 1}] * 200, chunksize=200)) <= 2


def test_rows_that_another_thread_changes_harm_no_other_call(pool: Pool) -> None:
    rows: list[Any] = [[number, number] for number in range(3000)]
    over, lock = threading.Event(), threading.Lock()

    def change() -> None:
        while not over.is_set():
            for row in rows:
                row[1] = lock
            for row in rows:
                row[1] = row[0]

    changing = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    changing.start()
    try:
        for _ in range(20):
            for outcome, row in zip(outcomes(pool.imap(same, rows)), rows, strict=True):
                assert isinstance(outcome, NotPicklable) or outcome == [row[0], row[0]]
    finally:
        over.set()
        changing.join()
        sys.setswitchinterval(interval)


def test_long_names_in_rows_are_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[int] = []
    monkeypatch.setattr(
        inputs, "pack_span", lambda items, pack=inputs.pack_span: spans.append(len(items)) or pack(items)
    )
    rows = [{f"{number:06d}" * 10_000: 1} for number in range(100)]
    with Pool(1) as pool:
        pool.map(abs, range(1000))
        assert pool.map(len, rows) == [1] * 100
        spans.clear()
        assert pool.map(len, rows) == [1] * 100
    assert max(spans) <= 10, "of 60 KB each, and a packet holds half a MiB"


def test_rows_are_those_of_when_they_were_pulled(gate: Gate) -> None:
    rows = [{"gate": None, "n": number} for number in range(100)]
    with Pool(1) as pool:
        pool.submit(calls.stand, gate)
        gate.reached()
        result = pool.map_async(same, rows, chunksize=100)
        pool.submit(abs, 1).running()  # by then the crank has pulled them
        for row in rows:
            row["n"] = -1
        gate.open()
        assert [row["n"] for row in result.get(PATIENCE)] == list(range(100))


@pytest.mark.parametrize("size", [10, 200_000], ids=["small", "in a block"])
def test_bytes_and_arrays(pool: Pool, size: int) -> None:
    array = np.arange(size)
    objects = np.array([None, [1], "x", {"a": array}], dtype=object)
    for back in (pool.submit(same, objects).get(), pool.map(same, [objects])[0]):
        assert back.dtype == object and list(back[:3]) == [None, [1], "x"]
        assert (back[3]["a"] == array).all()
    for value in (bytes(size), bytearray(size), {"k": [bytes(size)]}, "ü" * size):
        assert pool.submit(same, value).get() == value == pool.map(same, [value])[0]
    buffer = pickle.PickleBuffer(bytearray(b"x" * size))
    assert bytes(pool.submit(bytes, buffer).get()) == b"x" * size
    assert pool.submit(lambda: (array + 1).sum()).get() == (array + 1).sum()


def test_functions_that_are_defined_within_others(pool: Pool) -> None:
    def outer(n: int) -> Callable[[int], int]:
        @functools.wraps(outer)
        def inner(x: int) -> int:
            return x * n

        return inner

    @functools.lru_cache(maxsize=3)
    def cached(x: int) -> int:
        return x + 1

    class Local:
        __slots__ = ("n",)

        def __init__(self, n: int = 0) -> None:
            self.n = n

        def __call__(self, x: int) -> int:
            return self.n + x

        def method(self, x: int) -> int:
            return self.n - x

    for function in (outer(3), cached, Local(2), Local(2).method, functools.partial(lambda x, y: x - y, 9)):
        assert pool.submit(function, 5).get() == function(5) == pool.map(function, [5])[0]  # type: ignore[operator]
    assert type(pool.submit(Local, 1).get()) is Local
    assert pool.submit(lambda: sys.stderr.fileno(), *()).get() == 2
    assert pool.submit(lambda out: out is sys.stdout, sys.stdout).get()


def test_a_manager_makes_what_processes_share(script: Script) -> None:
    """What the refusal of a lock or queue says."""
    said = script(
        """
        import multiprocessing
        from procoro import Pool

        with multiprocessing.Manager() as manager, Pool(1) as pool:
            lock, shared = manager.Lock(), manager.Queue()

            def put(x, *, lock):
                with lock:
                    shared.put(x)
                return True

            print(pool.submit(put, 1, lock=lock).get(), shared.get())
        """
    )
    assert said == "True 1\n"


@pytest.mark.parametrize("pool_first", [False, True])
def test_shared_memory_outlives_the_processes_that_have_looked_at_it(pool_first: bool, script: Script) -> None:
    said = script(
        """
        import sys
        from multiprocessing.shared_memory import SharedMemory
        from procoro import Pool, Process

        def look(name):
            memory = SharedMemory(name)
            value = memory.buf[0]
            memory.close()
            return value

        def make(value):
            memory = SharedMemory(create=True, size=10)
            memory.buf[0] = value
            memory.close()
            return memory.name

        early = Pool(1) if sys.argv[1] == "True" else None
        if early: early.apply(abs, (1,))
        ours = SharedMemory(create=True, size=10)
        ours.buf[0] = 9
        with early or Pool(1) as pool:
            seen, name = [pool.apply(look, (ours.name,))], pool.apply(make, (7,))
        pool.join()
        for memory in (ours.name, name):
            process = Process(target=look, args=(memory,))
            process.start()
            seen.append(process.result())
        with Pool(1, maxtasksperchild=1) as pool:
            seen += pool.map(look, [ours.name, name, name])
        print(*seen)
        theirs = SharedMemory(name)
        for memory in (ours, theirs):
            memory.close()
            memory.unlink()
        """,
        pool_first,
    )
    assert said == "9 9 7 9 7 7\n"


# ------------------------------------------------------------------------------------ what is refused


@pytest.fixture
def closing() -> Iterator[list[Any]]:
    held: list[Any] = []
    yield held
    for one in held:
        getattr(one, "close", lambda: None)()


def test_a_refusal_begins_with_the_path_and_ends_with_the_way_out(pool: Pool) -> None:
    with pytest.raises(NotPicklable) as caught:
        pool.submit(same, 1, lock=threading.Lock())
    assert str(caught.value) == (
        "kwargs['lock']: a threading.Lock lives in one process; make it in the function or the initializer; "
        "procoro has locks that processes share: procoro.Lock"
    )
    assert isinstance(caught.value, pickle.PicklingError) and isinstance(caught.value.__cause__, TypeError)


def everything_of_one_process(closing: list[Any]) -> Iterator[tuple[Any, str, str]]:
    """Each with its name in words, and a word of the way out."""
    for name in ("Lock", "RLock"):
        yield getattr(threading, name)(), f"a threading.{name}", "procoro."
    for name in ("Condition", "Event", "Semaphore", "BoundedSemaphore"):
        yield getattr(threading, name)(), f"a threading.{name}", "procoro."
        yield getattr(multiprocessing, name)(), f"a multiprocessing.{name}", "procoro."
    yield threading.Barrier(2), "a threading.Barrier", "procoro."
    yield threading.Thread(), "a thread", "start it in the function"
    yield Thread(), "a tests.promises.test_pickling.Thread is a thread, and", "start it in the function"
    yield threading.local(), "a threading.local", "initializer"
    yield queue.Queue(), "a queue.Queue", "return the items"
    yield multiprocessing.Lock(), "a multiprocessing.Lock", "procoro."
    one, other = multiprocessing.Pipe()
    closing += [one, other]
    yield one, "an end of a multiprocessing.Pipe", "inherited"
    for mode in ("r", "rb", "w"):
        file = open(os.devnull, mode)
        closing.append(file)
        yield file, "an open file ('/dev/null')", "pass its path"
    with socket.socket() as plain:
        encrypted = ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
    closing += [encrypted, connection := sqlite3.connect(":memory:")]
    yield encrypted, "an encrypted socket", "pass the address"
    yield connection, "a sqlite3.Connection", "pass the path"
    yield connection.cursor(), "a sqlite3.Cursor", "pass the rows"
    yield (x for x in "ab"), "a generator", "give it to imap"
    closing.append(coroutine := calls.double_async(1))
    yield coroutine, "a coroutine", "pass the async function and its arguments"
    for name in ("Lock", "Event", "Queue", "Condition"):
        yield getattr(asyncio, name)(), f"an asyncio.{name}", "in the function"
    yield weakref.ref(Node()), "a weak reference", "what it refers to"
    yield sys._getframe(), "a frame", "f_locals"
    yield contextvars.ContextVar("x"), "a ContextVar", "get()"
    yield memoryview(b"x"), "a memoryview", "bytes(view)"
    yield ctypes.CDLL(None), "a loaded library", "load it in the function"
    try:
        raise ValueError
    except ValueError as error:
        yield error.__traceback__, "a traceback", "text"


def test_what_lives_in_one_process_is_named_with_a_way_out(pool: Pool, closing: list[Any]) -> None:
    for value, name, way_out in everything_of_one_process(closing):
        with pytest.raises(NotPicklable) as caught:
            pool.submit(same, [value])
        words = str(caught.value)
        assert words.startswith(f"args[0][0]: {name} lives in one process; "), words
        assert way_out in words
    result = pool.submit(abs, -1)
    whole, stream = pool.map_async(abs, [-1]), pool.imap(abs, [-1])
    for one, words in ((pool, "a Pool"), (result, "a Result"), (whole, "a MapResult"), (stream, "a stream")):
        with pytest.raises(NotPicklable, match=rf"args\[0\]: {words} lives in one process; "):
            pool.submit(same, one)
    assert result.get(PATIENCE) == 1 == next(stream)


LOCK = threading.Lock()


def default(x: int, y: Any = (1, LOCK), *, z: Any = LOCK) -> Any:
    return x, y, z


@pytest.mark.parametrize(
    "value, path",
    [
        (Node(1, {"y": [1, 2, LOCK]}), "args[0].held[1]['y'][2]"),
        (Slotted([LOCK]), "args[0].held[0]"),
        (StubbornState(LOCK), "args[0].odd[0]"),
        ({LOCK}, "args[0] (a member)"),
        ({(1, LOCK): 2}, "args[0] (a key)[1]"),
        (collections.OrderedDict(a=LOCK), "args[0]['a']"),
        (collections.deque([1, LOCK]), "args[0][1]"),
        (collections.defaultdict(list, a=[LOCK]), "args[0]['a'][0]"),
        (types.SimpleNamespace(a=LOCK), "args[0].a"),
        (functools.partial(same, 1, LOCK), "args[0].args[1]"),
        (functools.partial(same, x=[LOCK]), "args[0].keywords['x'][0]"),
        (functools.partial(Node(LOCK).__init__), "args[0].func.__self__.held[0]"),  # type: ignore[misc]
        (Node(LOCK).__init__, "args[0].__self__.held[0]"),  # type: ignore[misc]
        (ValueError("x", LOCK), "args[0].args[1]"),
        ((lambda held: lambda: held)([LOCK]), "args[0], variable held[0]"),
        ((lambda function: lambda: function)((lambda x: lambda: x)(LOCK)), "args[0], variable function, variable x"),
        (lambda: LOCK, "args[0], global LOCK"),
        (lambda x=LOCK: x, "args[0], default of x"),
        (lambda *, x=LOCK: x, "args[0], default of x"),
        (iter([LOCK]), "args[0].__reduce__()[1][0][0]"),
        (types.MappingProxyType({"a": LOCK}), "args[0].__reduce__()[1][0]['a']"),
    ],
)
def test_the_path_leads_into(pool: Pool, value: Any, path: str) -> None:
    with pytest.raises(NotPicklable) as caught:
        pool.submit(same, value)
    assert str(caught.value).startswith(f"{path}: a threading.Lock lives in one process; "), str(caught.value)


def test_other_refusals_name_the_class_and_the_reason(pool: Pool) -> None:
    for value, words in (
        (Stubborn(ValueError("no")), "a tests.promises.test_pickling.Stubborn cannot travel to another process"),
        (Stubborn(ValueError("no")), "its pickling raised ValueError: no"),
        (Endless(), "its pickling raised RecursionError"),
        (type(iter([])), "the class list_iterator cannot travel to another process"),
        (ctypes.pointer(ctypes.c_int()), "containing pointers"),
    ):
        with pytest.raises(NotPicklable) as caught:
            pool.submit(same, [0, value])
        assert str(caught.value).startswith("args[0][1]: ") and words in str(caught.value), str(caught.value)


def test_what_is_nested_too_deeply(pool: Pool) -> None:
    assert pool.submit(len, nested(200)).get(PATIENCE) == 1
    deep = nested(100_000)
    with pytest.raises(NotPicklable, match=r"^args\[0\]: it is nested too deeply for pickle; pass it flat"):
        pool.submit(len, deep)
    with pytest.raises(NotPicklable, match=r"^result: it is nested too deeply"):
        pool.submit(nested, 100_000).get(PATIENCE)
    found = outcomes(pool.imap(len, [[1], deep, [2]]))
    assert list(errors_in(found)) == [1] and "nested too deeply" in str(found[1])


def test_an_input_that_cannot_be_packed_fails_its_own_call(pool: Pool) -> None:
    inputs: list[Any] = [[0], {"a": [LOCK]}, [2], open, (x for x in "a"), lambda: LOCK]
    for values in (inputs, iter(inputs)):
        found = outcomes(pool.imap(lambda x: 1, values))
        assert list(errors_in(found)) == [1, 4, 5] and found[0] == found[2] == found[3] == 1
        for at, words in ((1, "['a'][0]: a threading.Lock"), (4, "a generator"), (5, "global LOCK")):
            call = errors.failed_call(found[at])
            assert isinstance(found[at], NotPicklable) and words in str(found[at])
            assert call is not None and call.number == at
    with pytest.raises(NotPicklable, match=r"\['a'\]\[0\]: a threading\.Lock lives"):
        pool.map(same, inputs)


def test_a_result_that_cannot_be_packed_fails_its_own_call(pool: Pool) -> None:
    def give(x: int) -> Any:
        return {"a": Node(threading.Lock())} if x == 1 else open(os.devnull) if x == 3 else x

    found = outcomes(pool.imap(give, range(5)))
    assert list(errors_in(found)) == [1, 3] and (found[0], found[2], found[4]) == (0, 2, 4)
    assert str(found[1]).startswith("result['a'].held[0]: a threading.Lock lives in one process")
    assert str(found[3]).startswith("result: an open file ('/dev/null') lives in one process")
    assert all(isinstance(found[at], NotPicklable) for at in (1, 3))


@pytest.mark.parametrize("error", [KeyboardInterrupt("mine"), SystemExit(3), RecursionError("deep"), GeneratorExit()])
def test_pickling_that_raises_odd_things_costs_its_own_call(pool: Pool, error: BaseException) -> None:
    wanted = NotPicklable if isinstance(error, Exception) else type(error)
    with pytest.raises(wanted):
        pool.submit(same, Stubborn(error))
    for values in ([1, Stubborn(error), 3], iter([1, Stubborn(error), 3])):
        found = outcomes(pool.imap(same, values))
        assert list(errors_in(found)) == [1] and isinstance(found[1], NotPicklable)
        assert type(error).__name__ in str(found[1])
    kind, args = type(error), error.args
    refused = pool.submit(lambda: Stubborn(kind(*args))).exception(PATIENCE)
    assert isinstance(refused, NotPicklable) and kind.__name__ in str(refused)
    assert pool.submit(os.getpid).get(PATIENCE) == pool.submit(os.getpid).get(PATIENCE)


# ------------------------------------------------------------------------- pickling that uses the pool


class Submits:
    """Packing it submits a call to the same pool, and waits for it."""

    pool: Pool

    def __reduce__(self) -> Any:
        bound = len(calls.__name__)
        return int, (Submits.pool.submit(lambda: bound).get(PATIENCE),)


def test_pickling_that_submits_to_the_same_pool(pool: Pool) -> None:
    Submits.pool = pool
    length = len(calls.__name__)
    assert pool.submit(same, Submits()).get(PATIENCE) == length
    held = Submits()
    assert pool.submit(lambda: held).get(PATIENCE) == length
    assert pool.submit(functools.partial(same, Submits())).get(PATIENCE) == length
    assert outcomes(pool.imap(same, iter([Submits(), 1]))) == [length, 1]


def test_signal_handlers_that_pack_while_their_thread_packs(script: Script) -> None:
    said = script(
        """
        import signal, time
        from procoro import Pool

        N = 0

        def times(n):
            return lambda x: x * n + N

        def handle(*_):
            signal.setitimer(signal.ITIMER_REAL, 0)
            n = len(mine)
            mine.append(pool.submit(times(n), 3))
            signal.setitimer(signal.ITIMER_REAL, 0.0003)

        pool, mine, theirs = Pool(2), [], []
        pool.apply(times(1), (2,))
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        deadline = time.monotonic() + 20
        while len(theirs) < 500 or len(mine) < 200 and time.monotonic() < deadline:
            theirs.append(pool.submit(times(len(theirs)), 2))
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        print(all(result.get() == 2 * n for n, result in enumerate(theirs)))
        print(all(result.get() == 3 * n for n, result in enumerate(mine)), len(mine) >= 200)
        pool.terminate()
        """
    )
    assert said == "True\nTrue True\n"


def test_threads_that_pack_at_the_same_time(pool: Pool) -> None:
    found: list[list[int]] = []

    def submit(first: int) -> None:
        results = [pool.submit(lambda x, n=n: x + n, 1) for n in range(first, first + 100)]  # type: ignore[misc]
        found.append([result.get(PATIENCE) for result in results])

    threads = [threading.Thread(target=submit, args=(1000 * at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [[first + n + 1 for n in range(100)] for first in (0, 1000, 2000, 3000)]
