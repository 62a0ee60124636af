"""What calls print and log comes out at the caller's, whole."""

import logging
import os
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from tests.promises.conftest import Start
from tests.promises.looks import wait_until


def log(level: int, words: str) -> int:
    logging.getLogger("tests.said").log(level, "said %s", words, extra={"mine": 5})
    return os.getpid()


def log_error(x: int) -> None:
    try:
        raise LookupError("logged")
    except LookupError:
        logging.exception("it failed")  # noqa: LOG015


def log_lock(x: int) -> None:
    import threading

    logging.getLogger("tests.said").warning("holds %s", x, extra={"lock": threading.Lock()})


def log_long(length: int) -> None:
    logging.getLogger("tests.said").warning("x" * length)


def records(caplog: pytest.LogCaptureFixture, name: str = "tests.said") -> list[Any]:
    return [record for record in caplog.records if record.name == name]


def test_records_reach_the_callers_handlers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Pool(2) as pool:
        pid = pool.apply(log, (logging.INFO, "this"))
        assert pool.apply(log, (logging.DEBUG, "too quiet"))
        wait_until(lambda: records(caplog), "the record is here")
    (record,) = records(caplog)
    assert record.getMessage() == "said this" and record.levelno == logging.INFO
    assert record.process == pid != os.getpid()
    assert record.mine == 5 and record.funcName == "log"


def test_records_of_a_call_come_before_its_pool_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    with Pool(2) as pool:
        pool.map(log_lock, range(50))
        pool.close()
        pool.join()
    assert sorted(record.getMessage() for record in records(caplog)) == sorted(f"holds {i}" for i in range(50))


def test_a_traceback_is_logged_as_text(caplog: pytest.LogCaptureFixture) -> None:
    with Pool(1) as pool:
        pool.apply(log_error, (1,))
        wait_until(lambda: records(caplog, "root"), "the record is here")
    assert "LookupError: logged" in caplog.text and "it failed" in caplog.text


@pytest.mark.parametrize("length", [100, 30_000, 40_000, 200_000, 3_000_000])
def test_long_records_arrive(caplog: pytest.LogCaptureFixture, length: int) -> None:
    with Pool(1) as pool:
        pool.apply(log_long, (length,))
        wait_until(lambda: records(caplog), "the record is here")
    assert records(caplog)[0].getMessage().startswith("x" * min(length, 4000))


def test_a_handler_that_raises_harms_nothing(start: Start) -> None:
    process = start(
        """
        import logging
        from procoro import Pool

        class Bad(logging.Handler):
            def emit(self, record): raise ValueError("handler")

        logging.getLogger().addHandler(Bad())

        def log(x):
            logging.getLogger("mine").warning("here")
            return x

        with Pool(1) as pool:
            pool.apply_async(log, (1,), callback=lambda value: 1 / 0)
            print(pool.map(log, range(5)), pool.apply(log, (5,)))
        """
    )
    out, said = process.communicate(timeout=10)
    assert (out, process.returncode) == ("[0, 1, 2, 3, 4] 5\n", 0)
    assert "ValueError: handler" in said


@pytest.mark.parametrize("configures", [False, True])
def test_logging_is_configured_by_the_caller_or_else_where_it_is_used(start: Start, configures: bool) -> None:
    """As in a fork: where the program has handlers, a worker's `basicConfig` does nothing."""
    process = start(
        f"""
        import logging, sys
        from procoro import Pool, Process

        if {configures}:
            logging.basicConfig(stream=sys.stdout, format="caller: %(processName)s %(message)s", level=logging.INFO)

        def configure():
            logging.basicConfig(stream=sys.stdout, format="worker: %(processName)s %(message)s", level=logging.INFO)

        def work(*_):
            configure()
            logging.info("works")

        process = Process(target=work, name="Ada")
        process.start()
        process.join()
        with Pool(1, configure) as pool:
            pool.map(work, [1])
        """
    )
    first, second = process.communicate(timeout=10)[0].splitlines()
    who = "caller" if configures else "worker"
    assert first == f"{who}: Ada works"
    assert second.startswith(f"{who}: PoolWorker-") and second.endswith(" works")


PRINTS = """
    import sys
    from procoro import Pool

    def say(n):
        print(n, chr(97 + n % 26) * (n * 37 % 4000))
        if n % 10 == 0:
            print(n, "error", "é", file=sys.stderr)
        return n

    with Pool(4) as pool:
        assert pool.map(say, range(400), chunksize=7) == list(range(400))
    print("last")
    """


@pytest.mark.parametrize("where", ["pipe", "file"])
def test_lines_stay_whole(start: Start, tmp_path: Path, where: str) -> None:
    if where == "pipe":
        out, said = (process := start(PRINTS)).communicate(timeout=20)
    else:
        with open(tmp_path / "out", "w") as file:
            _, said = (process := start(PRINTS, stdout=file)).communicate(timeout=20)
        out = (tmp_path / "out").read_text()
    assert process.returncode == 0
    lines = out.splitlines()
    assert lines.pop() == "last"
    assert sorted(lines) == sorted(f"{n} {chr(97 + n % 26) * (n * 37 % 4000)}" for n in range(400))
    assert sorted(said.splitlines()) == sorted(f"{n} error é" for n in range(0, 400, 10))


def test_what_is_printed_without_a_newline_is_out_when_the_call_is_over(start: Start) -> None:
    process = start(
        """
        import os, sys
        from procoro import Pool

        def say(x):
            print("half", end="")
            os.write(1, b"!")
            sys.stdout.write("more")
            sys.stdout.buffer.write(b"bytes")

        with Pool(1) as pool:
            pool.apply(say, (1,))
            print("|", flush=True)
            pool.apply(print, ("a", "b"), {"sep": "-"})
        """,
        stdout=subprocess.PIPE,
    )
    out, said = process.communicate(timeout=10)
    assert said == "" and out.splitlines()[-1] == "a-b"
    first = out.split("|")[0]
    assert sorted(first) == sorted("half!morebytes") and out.index("|") == len("half!morebytes")


def test_print_in_the_initializer_and_at_death(start: Start) -> None:
    out, _ = start(
        """
        import os
        from procoro import Pool

        def hello(): print("hello")

        def die(x):
            print("last words", flush=True)
            os._exit(1)

        with Pool(1, hello) as pool:
            assert type(pool.submit(die, 1).exception()).__name__ == "WorkerDied"
            pool.map(abs, [1])
        """
    ).communicate(timeout=10)
    assert sorted(out.splitlines()) == ["hello", "hello", "last words"]


def test_a_closed_stdout_harms_nothing(start: Start) -> None:
    process = start(
        """
        import os
        from procoro import Pool

        def say(x):
            print("nobody hears")
            return x

        os.close(1)
        with Pool(2) as pool:
            assert pool.map(say, range(20)) == list(range(20))
        os.write(2, b"done")
        os._exit(0)
        """
    )
    _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (0, "done")


CLOSED = [
    pytest.param(
        """
        with Pool(1) as pool:  # its template is still there when the next pool comes
            pool.apply(abs, (1,))
        os.close(1)
        with Pool(1, maxtasksperchild=1) as pool:
            for function in (talk, abs, talk, neg):
                pool.apply(function, (3,))
        """,
        id="closed between two pools",
    ),
    pytest.param(
        """
        for number in range(3):
            os.close(number)
        files = [open(os.devnull, "w") for _ in range(3)]  # which no program that is started gets
        with Pool(2) as pool:
            assert pool.map(talk, range(4)) == list(range(4))
        process = Process(target=talk, args=(1,))
        process.start()
        assert process.result(10) == 1
        """,
        id="taken by files",
    ),
    pytest.param(
        """
        os.close(1)
        ends = Pipe()
        process = Process(target=talk, args=(1,))
        process.start()
        assert process.result(10) == 1
        assert not any(end.poll(0.1) for end in ends)
        """,
        id="closed before a pipe",
    ),
]


@pytest.mark.parametrize("program", CLOSED)
def test_what_is_ours_is_no_standard_stream(start: Start, program: str) -> None:
    process = start(
        """
        import os
        from operator import neg
        from procoro import Pipe, Pool, Process

        def talk(x):
            print("nobody hears " * 1000)
            return x

        said = os.dup(2)
        try:
            exec(PROGRAM)
            os.write(said, b"done")
        except BaseException as error:
            os.write(said, repr(error).encode())
        os._exit(0)
        """.replace("PROGRAM", repr(textwrap.dedent(program)))
    )
    _, said = process.communicate(timeout=30)
    assert said == "done"


def test_input_is_left_to_the_caller(start: Start) -> None:
    """As in multiprocessing: what is typed is not for those who run beside it."""
    out, said = start(
        """
        import os, sys
        from procoro import Pool, Process

        def read(): return sys.stdin.readline(), os.read(0, 100)

        with Pool(1) as pool:
            print(pool.apply(read))
        process = Process(target=read)
        process.start()
        print(process.result(), sys.stdin.readline())
        """,
        stdin=subprocess.PIPE,
    ).communicate("typed\n", timeout=10)
    assert (out, said) == ("('', b'')\n('', b'') typed\n\n", "")
