"""A pool and forks: the child has no part in its parent's pool, is told so in words, and may have its own."""

from pathlib import Path

from tests.promises.conftest import Script

# What a child finds out when it asks its parent's pool: each in a thread, for what hangs must not hold up the rest.
ASKS = """
    import asyncio, os, threading, warnings
    from procoro import Pool
    from procoro.errors import PoolClosed
    from tests.gate import Gate
    from tests.promises import calls

    warnings.simplefilter("ignore")
    gate, pool = Gate("gate"), Pool(2)
    result, whole = pool.submit(calls.stand, gate, 7), pool.map_async(calls.stand, [gate])
    stream = pool.imap(abs, range(5))
    gate.reached(), gate.reached()

    async def awaited(what): return await what
    async def iterated(): return [value async for value in stream]
    async def inside():
        async with pool: pass

    def entered():
        with pool: pass

    def ask(what):
        found = []
        def run():
            try:
                found.append(repr(what()))
            except PoolClosed as error:
                found.append("closed" if "parent process" in str(error) else str(error))
            except BaseException as error:
                found.append(repr(error))
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(1 if "hangs" in seen else 10)
        return found[0] if found else "hangs"

    seen = []
    if (child := os.fork()) == 0:
        for name, what in {%s}.items():
            seen.append(ask(what))
            if seen[-1] != "%s":
                print(name, seen[-1], flush=True)
        os._exit(0)
    print(os.waitpid(child, 0)[1])
    gate.close()
    assert (result.get(10), whole.get(10), list(stream)) == (7, [None], [0, 1, 2, 3, 4]), "its parent's is unharmed"
    assert pool.apply(calls.double, (3,)) == 6
    pool.close()
    pool.join()
    """


def asks(methods: str, answer: str) -> str:
    return ASKS % (" ".join(methods.split()), answer)


HANDS_IN = """
    "submit": lambda: pool.submit(abs, 1), "apply": lambda: pool.apply(abs, (1,)),
    "apply_async": lambda: pool.apply_async(abs, (1,)), "map": lambda: pool.map(abs, [1]),
    "map_async": lambda: pool.map_async(abs, [1]), "starmap": lambda: pool.starmap(abs, [(1,)]),
    "starmap_async": lambda: pool.starmap_async(abs, [(1,)]), "imap": lambda: pool.imap(abs, [1]),
    "imap_unordered": lambda: pool.imap_unordered(abs, [1]), "with": entered,
    "async with": lambda: asyncio.run(inside())
"""
WAITS = """
    "get": result.get, "exception": result.exception, "wait": lambda: result.wait(20),
    "map get": whole.get, "map wait": lambda: whole.wait(20), "next": stream.next, "list": lambda: list(stream)
"""
AWAITS = """
    "result": lambda: asyncio.run(awaited(result)), "map": lambda: asyncio.run(awaited(whole)),
    "stream": lambda: asyncio.run(iterated())
"""


def test_a_forked_child_is_refused_in_words(script: Script) -> None:
    assert script(asks(HANDS_IN, "closed")) == "0\n"


def test_a_forked_child_that_waits_is_refused_in_words(script: Script) -> None:
    assert script(asks(WAITS, "closed")) == "0\n"


def test_a_forked_child_that_awaits_is_refused_in_words(script: Script) -> None:
    assert script(asks(AWAITS, "closed")) == "0\n"


def test_a_forked_child_sees_no_call_run_and_ends_none(script: Script) -> None:
    methods = '"cancel": result.cancel, "kill": result.kill, "ready": result.ready, "running": result.running'
    assert script(asks(methods, "False")) == "0\n"


def test_a_forked_child_that_ends_the_pool_ends_nothing(script: Script) -> None:
    methods = """
        "close": pool.close, "join": pool.join, "terminate": pool.terminate,
        "exit": lambda: pool.__exit__(None, None, None),
        "async exit": lambda: asyncio.run(pool.__aexit__(None, None, None)), "join again": pool.join
    """
    assert script(asks(methods, "None")) == "0\n"


def test_a_forked_child_that_lets_go_of_the_pool_harms_nothing(script: Script) -> None:
    """By `del`, by the end of a `with` and of the program; and it says nothing about it, under -X dev either."""
    assert (
        script(
            """
            import gc, os, sys
            from procoro import Pool

            with Pool(2) as pool:
                result, stream = pool.submit(pow, 2, 10), pool.imap(abs, iter(range(9000)))
                first, children = next(stream), []
                for how in ("del", "leave", "exit"):
                    if (child := os.fork()) == 0:
                        break
                    children.append(child)
                else:
                    print([os.waitpid(child, 0)[1] for child in children])
                    print(result.get(), sum(stream), pool.map(abs, [-1]))
                if child == 0 and how == "del":
                    del pool, result, stream
                    gc.collect()
                if child == 0 and how == "exit":
                    sys.exit()
            """,
            flags=("-X", "dev", "-W", "error", "script_0.py"),
        )
        == f"[0, 0, 0]\n1024 {sum(range(9000))} [1]\n"
    )


SLOW_CTYPES = """
import os, time
from pathlib import Path

Path({begun!r}).touch()
time.sleep(0.5)
__file__ = os.path.join(os.path.dirname(os.__file__), "ctypes", "__init__.py")
__path__ = [os.path.dirname(__file__)]
exec(compile(Path(__file__).read_text(), __file__, "exec"))
"""


def test_a_fork_while_our_thread_imports(script: Script, tmp_path: Path) -> None:
    """The child would have half of the module, or wait for the rest."""
    begun = tmp_path / "begun"
    (tmp_path / "ctypes").mkdir()
    (tmp_path / "ctypes" / "__init__.py").write_text(SLOW_CTYPES.format(begun=str(begun)))
    assert (
        script(
            f"""
            import os, sys, time, warnings
            from pathlib import Path
            from procoro import Pool

            warnings.simplefilter("ignore")
            sys.path.insert(0, {str(tmp_path)!r})

            def long_calls(pool):
                # Short ones are sent together, and what stands behind a long one is taken back: that needs ctypes.
                assert [pool.submit(time.sleep, 0).get() for _ in range(30)]
                return [pool.submit(time.sleep, seconds) for seconds in (0.3, 0, 0, 0)]

            def wait(pool):
                for result in long_calls(pool):
                    result.get()

            with Pool(1) as pool:
                results = long_calls(pool)
                while not Path({str(begun)!r}).exists():
                    time.sleep(0.001)
                if (pid := os.fork()) == 0:
                    with Pool(1) as own:
                        wait(own)
                    os._exit(0)
                print(os.waitpid(pid, 0)[1])
            """
        )
        == "0\n"
    )


def test_a_fork_while_threads_submit(script: Script) -> None:
    """Every child, by `os.fork` or `multiprocessing`, can have a pool at once, whatever the threads were about."""
    assert (
        script(
            """
            import multiprocessing, os, threading, warnings
            from procoro import Pool

            warnings.simplefilter("ignore")
            pool, over, done = Pool(2), threading.Event(), []

            def submit():
                n = 0
                while not over.is_set():
                    n += 1
                    assert pool.submit(abs, -n).get() == n
                    assert pool.map(lambda x: x + n, [1]) == [1 + n]
                done.append(n)

            def child(n):
                with Pool(1) as own:
                    assert own.map(lambda x: x + n, range(3)) == [n, n + 1, n + 2]
                    assert own.submit(abs, -3).get() == 3
                try:
                    pool.submit(abs, 1)
                except ValueError:
                    return
                os._exit(3)

            threads = [threading.Thread(target=submit) for _ in range(3)]
            for thread in threads:
                thread.start()
            for n in range(3):
                process = multiprocessing.get_context("fork").Process(target=child, args=(n,))
                process.start()
                process.join()
                assert process.exitcode == 0, process.exitcode
                if (pid := os.fork()) == 0:
                    child(n)
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            over.set()
            for thread in threads:
                thread.join()
            print(len(done), all(done))
            pool.terminate()
            """
        )
        == "3 True\n"
    )


def test_a_fork_in_a_thread_and_in_its_child_again(script: Script) -> None:
    assert (
        script(
            """
            import os, threading, warnings
            from procoro import Pool
            from tests.promises import calls

            warnings.simplefilter("ignore")

            def forks(depth):
                with Pool(1) as pool:
                    assert pool.apply(calls.double, (depth,)) == 2 * depth
                    if (pid := os.fork()) == 0:
                        if depth:
                            forks(depth - 1)
                        os._exit(5)
                    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
                    assert pool.apply(calls.double, (depth,)) == 2 * depth

            with Pool(1) as outer:
                outer.apply(abs, (-1,))
                thread = threading.Thread(target=forks, args=(2,))
                thread.start()
                thread.join()
                print(outer.apply(abs, (-1,)))
            """
        )
        == "1\n"
    )


def test_a_call_that_forks_a_child_with_a_pool(script: Script) -> None:
    assert (
        script(
            """
            import multiprocessing
            from procoro import Pool

            class Mine: pass

            def make(x): return Mine()

            def child(queue):
                with Pool(1) as pool:
                    queue.put([isinstance(made, Mine) for made in pool.map(make, range(3))])

            def call(x):
                context = multiprocessing.get_context("fork")
                queue = context.SimpleQueue()
                process = context.Process(target=child, args=(queue,))
                process.start()
                found = queue.get()
                process.join()
                return found, process.exitcode

            with Pool(1) as pool:
                print(pool.map(call, range(2)))
            """
        )
        == f"{[([True] * 3, 0)] * 2}\n"
    )


def test_a_forked_child_keeps_no_worker_alive_whose_template_had_died(script: Script, tmp_path: Path) -> None:
    """Their lifelines hang on the dead template; the child must let go of those, too."""
    assert (
        script(
            """
            import os, signal, sys, warnings
            from procoro import Pool
            from tests.promises import calls, looks

            warnings.simplefilter("ignore")
            read, write = os.pipe()
            if (middle := os.fork()) == 0:
                os.close(write)
                pool, pids = Pool(2), set()
                while len(pids) < 2:
                    pids.update(pool.map(calls.pid, range(50), chunksize=1))
                one, other = pids
                looks.kill(looks.template().pid)
                looks.kill(one)
                while len(pids) < 3:  # the next one comes from a new template
                    pids.update(pool.map(calls.pid, range(50), chunksize=1))
                assert not looks.gone(other)
                if os.fork() == 0:
                    os.read(read, 1)
                    os._exit(0)
                print(*pids, file=open("pids", "w"), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(middle, 0)
            for pid in open("pids").read().split():
                looks.wait_until(lambda: looks.gone(int(pid)), "it is gone", 2)
            os.write(write, b".")
            print("gone")
            """
        )
        == "gone\n"
    )


def test_a_child_forked_while_another_thread_submits_may_close_the_pool(script: Script) -> None:
    """That thread has the pool's lock, and is not there to let it go."""
    said = script(
        """
        import os, threading, warnings
        from procoro import Pool

        warnings.simplefilter("ignore")
        has_it, let_go = threading.Event(), threading.Event()

        def submits(pool):
            with pool._lock:
                has_it.set()
                let_go.wait()

        with Pool(1) as pool:
            pool.submit(abs, 1).get()
            thread = threading.Thread(target=submits, args=(pool,))
            thread.start()
            has_it.wait()
            if not (child := os.fork()):
                pool.close()
                os._exit(7)
            let_go.set()
            thread.join()
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), pool.submit(abs, -2).get())
        """
    )
    assert said == "7 2\n"
