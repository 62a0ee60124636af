"""Programs as users of `multiprocessing` have them, with their import changed."""

import multiprocessing
import os
import queue
import signal
from typing import Any

import pytest

import procoro
from procoro import JoinableQueue, Pipe, Process, Queue, SimpleQueue
from procoro.errors import NotPicklable, QueueAbandoned
from tests.promises import shares
from tests.promises.conftest import Script, Start
from tests.promises.forks import PATIENCE


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_tasks_of_main_go_through_a_queue(script: Script, kind: str) -> None:
    """Who gets them has never heard of their class."""
    said = script(
        f"""
        from procoro import {kind} as Queue, Pool, Process

        OFFSET = 40

        def twice(x): return 2 * x + OFFSET

        class Task:
            def __init__(self, x): self.x = x
            def __call__(self): return twice(self.x)

        class Special(Task):
            def __call__(self): return -super().__call__()

        def times(x, y): return x * y

        def work(tasks, results):
            for task in iter(tasks.get, None):
                results.put(task() if callable(task) else task[0](*task[1:]))

        def relay(one, other):
            for item in iter(one.get, None):
                other.put(item)

        tasks, between, results = Queue(), Queue(), Queue()
        processes = [Process(target=relay, args=(tasks, between)), Process(target=work, args=(between, results))]
        for process in processes:
            process.start()
        for task in Task(1), Special(2), (times, 6, 7), Task(3):
            tasks.put(task)
        print([results.get() for _ in range(4)])
        tasks.put(None)
        between.put(None)
        for process in processes:
            process.join()
        with Pool(2) as pool:
            working = pool.submit(work, tasks, results)
            for task in Task(1), Special(2), (times, 6, 7):
                tasks.put(task)
            print([results.get() for _ in range(3)], pool.apply(isinstance, (Task(1), Task)))
            tasks.put(None)
            working.get()
        tasks.put(Task(5))
        print(type(tasks.get()) is Task)
        """
    )
    assert said.splitlines() == ["[42, -44, 42, 46]", "[42, -44, 42] True", "True"]


def test_tasks_of_main_go_through_a_pipe(script: Script) -> None:
    said = script(
        """
        from procoro import Lock, Pipe, Process

        lock = Lock()

        class Task:
            def __init__(self, x): self.x = x
            def __call__(self):
                with lock:
                    return self.x

        def work(end):
            task = end.recv()
            end.send((task(), task))

        here, there = Pipe()
        process = Process(target=work, args=(there,))
        process.start()
        here.send(Task(7))
        value, task = here.recv()
        print(value, type(task) is Task)
        process.join()
        """
    )
    assert said == "7 True\n"


def test_a_large_global_does_not_go_with_each_item(script: Script) -> None:
    said = script(
        """
        from procoro import Process, Queue

        table = bytes(100_000)

        class Task:
            def __call__(self): return len(table)

        def work(queue, results):
            for task in iter(queue.get, None):
                try:
                    results.put(task())
                except NameError as error:
                    results.put(str(error))

        def has_it(queue, results):
            len(table)
            work(queue, results)

        for target in has_it, work:
            queue, results = Queue(), Queue()
            process = Process(target=target, args=(queue, results))
            process.start()
            queue.put(Task())
            print(results.get())
            queue.put(None)
            process.join()
        """
    )
    assert said.splitlines() == ["100000", "name 'table' is not defined"]


@pytest.mark.parametrize("make", [Queue, SimpleQueue, JoinableQueue, lambda: Pipe()[0]])
def test_what_lives_in_one_process_is_no_item(make: Any) -> None:
    """multiprocessing's end would arrive as a number, which is that of another file there."""
    here, there = multiprocessing.Pipe()
    channel = make()
    put = getattr(channel, "put", None) or channel.send
    with here, there, pytest.raises(NotPicklable, match=r"multiprocessing\.Pipe"):
        put([here])


def test_an_end_given_to_a_process_is_given_away() -> None:
    def start() -> tuple[Process, Any]:
        here, there = Pipe()
        process = Process(target=shares.send_and_die, args=(there,))
        process.start()
        return process, here

    process, here = start()
    with here:
        assert here.recv() == 1
        with pytest.raises(EOFError):
            here.recv()
    with pytest.raises(procoro.errors.WorkerDied, match="send_and_die"):
        process.result(PATIENCE)


def test_a_target_may_be_a_method_of_who_holds_the_processes(script: Script) -> None:
    said = script(
        """
        from procoro import Process, Queue

        class Service:
            def __init__(self):
                self.processes, self.queue = [], Queue()

            def work(self, number):
                self.queue.put((number, [process.name for process in self.processes]))

            def start(self):
                for number in range(3):
                    process = Process(target=self.work, args=(number,), name=f"p{number}")
                    self.processes.append(process)
                    process.start()
                for process in self.processes:
                    process.join()
                print(sorted(self.queue.get() for _ in range(3)))

        Service().start()
        """
    )
    assert said == "[(0, ['p0']), (1, ['p0', 'p1']), (2, ['p0', 'p1', 'p2'])]\n"


def test_one_who_asks_with_a_timeout_may_take_the_end_for_emptiness() -> None:
    left: Queue[int] = Queue()
    process = Process(target=left.put, args=(1,))
    process.start()
    process.join()
    assert left.get(timeout=PATIENCE) == 1
    with pytest.raises(queue.Empty):
        left.get(timeout=0.2)
    with pytest.raises(EOFError):
        left.get(timeout=PATIENCE)
    with pytest.raises(QueueAbandoned):
        left.get()


def test_the_time_out_has_its_name() -> None:
    with procoro.Pool(1) as pool, pytest.raises(procoro.TimeoutError):
        pool.apply_async(shares.wait_long).get(timeout=0.01)


def test_sigterm_to_the_whole_group_ends_the_program_alone_and_at_once(start: Start) -> None:
    """Who ends a service often sends it to all its processes: the template is there until the program is gone."""
    program = start(
        """
        import os, signal, sys, time
        from procoro import Pool

        def stop(*_):
            global stopped
            stopped = True

        signal.signal(signal.SIGTERM, stop)
        stopped = False
        with Pool(2) as pool:
            pool.map(abs, range(10))
            print("ready", flush=True)
            while not stopped:
                time.sleep(0.01)
            began = time.monotonic()
            print(pool.map(abs, range(3)), flush=True)
        print(time.monotonic() - began < 2)
        """
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    os.killpg(program.pid, signal.SIGTERM)
    out, said = program.communicate(timeout=20)
    assert out == "[0, 1, 2]\nTrue\n", said


def test_items_may_answer_to_any_name() -> None:
    queue: SimpleQueue[Any] = SimpleQueue()
    queue.put(shares.Attributes(a=1))
    queue.put([shares.Answers()])
    assert queue.get() == {"a": 1}
    assert type(queue.get()[0]) is shares.Answers


def test_what_cannot_travel_is_left_out_of_an_item(script: Script) -> None:
    said = script(
        """
        import os, threading
        from procoro import Process, Queue

        log, lock = open(os.devnull, "w"), threading.Lock()

        class Task:
            def __call__(self): return 42
            def write(self):
                with lock:
                    print("x", file=log)

        def work(queue, results):
            task = queue.get()
            results.put(task())
            try:
                task.write()
            except NameError as error:
                results.put(str(error))

        queue, results = Queue(), Queue()
        process = Process(target=work, args=(queue, results))
        process.start()
        queue.put(Task())
        print(results.get(), results.get())
        process.join()
        """
    )
    assert said == "42 name 'lock' is not defined\n"


def test_threads_of_one_process_take_items_of_one_class(script: Script) -> None:
    said = script(
        """
        import threading, time
        from procoro import Process, Queue

        class Slow:
            def __reduce__(self): return rebuilt, ()

        def rebuilt():
            time.sleep(0.2)
            return "slow"

        slow = Slow()

        class Task:
            def __call__(self): return slow

        def work(queue, results):
            def one(): results.put(queue.get()())
            threads = [threading.Thread(target=one) for _ in range(3)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()

        queue, results = Queue(), Queue()
        process = Process(target=work, args=(queue, results))
        process.start()
        for _ in range(3):
            queue.put(Task())
        print([results.get() for _ in range(3)])
        process.join()
        """
    )
    assert said == "['slow', 'slow', 'slow']\n"


def test_threads_put_items_of_one_class_at_the_same_time(script: Script) -> None:
    said = script(
        """
        import sys, threading
        from procoro import SimpleQueue

        names = [f"g{number}" for number in range(30)]
        globals().update((name, [name]) for name in names)
        exec("class Task:\\n    def run(self): return " + ", ".join(names))

        def put():
            queue = SimpleQueue()
            for _ in range(400):
                try:
                    queue.put(Task())
                    queue.get()
                except BaseException as error:
                    wrong.append(error)

        wrong = []
        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=put) for _ in range(6)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(wrong)
        """
    )
    assert said == "[]\n"
