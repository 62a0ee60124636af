"""What a call raises is raised as it was: its class, its attributes, its causes, its notes, its group."""

import dataclasses
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import RemoteError, failed_call
from tests.promises import calls
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        pool.submit(abs, -1).get(PATIENCE)  # the worker is here
        yield pool


class Required(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Two(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")
        self.first, self.second = first, second


class Formats(Exception):
    def __init__(self, what: str) -> None:
        super().__init__(f"<{what}>")


class NoSuper(Exception):
    def __init__(self, what: str, more: int = 3) -> None:
        self.what, self.more = what, more

    def __str__(self) -> str:
        return f"{self.what}/{self.more}"


class NotFound(FileNotFoundError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "no such thing", path)
        self.own = path


class Decode(UnicodeDecodeError):
    def __init__(self) -> None:
        super().__init__("utf-8", b"\xff", 0, 1, "bad")


class Exits(SystemExit):
    def __init__(self, *, status: int) -> None:
        super().__init__(status)


class TwoBases(OSError, LookupError):
    def __init__(self, *, code: int) -> None:
        super().__init__(code, "words")


class Base(BaseException):
    def __init__(self, *, words: str) -> None:
        super().__init__(words)


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, *, code: int) -> None:
        self.code = code


@dataclasses.dataclass
class Data(Exception):
    code: int
    more: list[int] = dataclasses.field(default_factory=list)


class SaysNonsense(Exception):
    def __reduce__(self) -> Any:
        return 5


class SaysAnother(Exception):
    def __reduce__(self) -> Any:
        return int, ("5",)


class WantsToExit(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(3)

    def __str__(self) -> str:
        raise SystemExit(3)


def throw(make: Any) -> None:
    raise make()


def thrown(pool: Pool, make: Any) -> BaseException:
    error = pool.submit(throw, make).exception(PATIENCE)
    assert error is not None and failed_call(error) is not None
    assert "raised in worker" in "".join(traceback.format_exception(error)), error
    return error


@pytest.mark.parametrize(
    "make",
    [
        lambda: Required(code=5),
        lambda: Two(1, 2),
        lambda: Formats("x"),
        lambda: NoSuper("x"),
        lambda: NotFound("/nowhere"),
        Decode,
        lambda: Exits(status=4),
        lambda: TwoBases(code=4),
        lambda: Base(words="x"),
        lambda: Slotted(code=5),
        lambda: Data(5, [1]),
        lambda: SaysNonsense("x"),
        lambda: SaysAnother("x"),
        lambda: calls.Odd(42, "odd"),
    ],
)
def test_its_constructor_may_be_odd(pool: Pool, make: Any) -> None:
    before, error = make(), thrown(pool, make)
    assert type(error) is type(before) and str(error) == str(before) and error.args == before.args
    for name in ("code", "first", "second", "what", "more", "filename", "errno", "own", "start", "reason"):
        assert getattr(error, name, None) == getattr(before, name, None), name


def test_it_may_want_to_exit_while_it_is_packed(pool: Pool) -> None:
    pid = pool.submit(calls.pid).get(PATIENCE)
    error = pool.submit(throw, lambda: WantsToExit("x")).exception(PATIENCE)
    assert type(error) is WantsToExit and error.args == ("x",)
    assert pool.submit(calls.pid).get(PATIENCE) == pid


def test_what_cannot_travel_leaves_its_words(pool: Pool) -> None:
    def with_notes() -> Exception:
        error = calls.Held("held")
        error.add_note("a note")
        return error

    for make, words in (
        (with_notes, "tests.promises.calls.Held: held"),
        (lambda: ValueError(threading.Lock()), "ValueError: <unlocked _thread.lock"),
    ):
        error = thrown(pool, make)
        assert isinstance(error, RemoteError) and str(error).startswith(words)
    assert error.__notes__[0].startswith("\nraised") and thrown(pool, with_notes).__notes__[0] == "a note"


def test_classes_that_are_local(pool: Pool) -> None:
    class Local(ValueError):
        def __init__(self, *, code: int) -> None:
            super().__init__("words")
            self.code = code

    with pytest.raises(Local, match="words") as caught:
        pool.submit(throw, lambda: Local(code=7)).get(PATIENCE)
    assert caught.value.code == 7
    error = thrown(pool, lambda: type("Made", (KeyError,), {})("k"))  # a class that this process has never seen
    assert isinstance(error, KeyError) and error.args == ("k",) and type(error).__name__ == "Made"


def with_chain() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            error.add_note("noted")
            raise Required(code=2) from error
    except Required:
        raise ValueError("last")  # noqa: B904


def test_causes_contexts_and_notes(pool: Pool) -> None:
    error = pool.submit(with_chain).exception(PATIENCE)
    assert type(error) is ValueError and error.__cause__ is None and not error.__suppress_context__
    middle = error.__context__
    assert type(middle) is Required and middle.code == 2 and middle.__suppress_context__
    assert type(middle.__cause__) is KeyError and middle.__cause__.__notes__ == ["noted"]
    words = "".join(traceback.format_exception(error))
    assert words.index("noted") < words.index("direct cause") < words.index("During handling")


def from_none() -> None:
    try:
        raise KeyError("hidden")
    except KeyError:
        raise ValueError("shown") from None


def with_odd_notes(notes: Any) -> None:
    error = ValueError("x")
    error.__notes__ = notes
    raise error


def long_chain(length: int) -> None:
    """Each is the cause and the context of the next: 2 ** length ways to the first."""
    if length == 0:
        raise KeyError(0)
    try:
        long_chain(length - 1)
    except Exception as error:
        raise ValueError(length) from error


def test_a_context_may_be_hidden(pool: Pool) -> None:
    error = pool.submit(from_none).exception(PATIENCE)
    assert error is not None and error.__suppress_context__ and error.__cause__ is None
    assert isinstance(error.__context__, KeyError)
    assert "hidden" not in "".join(traceback.format_exception(error)).split("raised in worker")[0]


def test_a_long_chain_is_not_followed_by_all_its_ways(pool: Pool) -> None:
    error, seen = pool.submit(long_chain, 40).exception(PATIENCE), 0
    while error is not None:
        error, seen = error.__cause__, seen + 1
    assert seen == 41


@pytest.mark.parametrize("notes", [5, None, [3, calls.Bomb], ("a", "b"), "text"], ids=repr)
def test_notes_may_be_anything(pool: Pool, notes: Any) -> None:
    error = pool.submit(with_odd_notes, notes).exception(PATIENCE)
    assert type(error) is ValueError and error.args == ("x",)


def test_an_exception_that_can_be_rebuilt_only_in_the_worker(pool: Pool) -> None:
    with pytest.raises(RemoteError, match="trap"):
        pool.submit(calls.raise_trap).get(PATIENCE)


def test_except_finds_the_programs_own_class(script: Script) -> None:
    said = script(
        """
        from procoro import Pool

        class Mine(Exception):
            def __init__(self, code, *, words):
                super().__init__(f"{code}: {words}")
                self.code = code

        def fail(x):
            raise Mine(x, words="no")

        with Pool(1) as pool:
            one, many, stream = (lambda: pool.submit(fail, 7).get(), lambda: pool.map(fail, [7]),
                                 lambda: next(pool.imap(fail, [7])))
            for call in (one, many, stream):
                try:
                    call()
                except Mine as error:
                    print(error, error.code)
        """
    )
    assert said == "7: no 7\n" * 3


@pytest.mark.parametrize("model", ["serial", "threads", "greenlets"])
def test_an_http_error_tells_its_status(model: str, script: Script) -> None:
    """It holds a connection, which cannot travel; who asks for its code does not want that."""
    said = script(
        """
        import sys, threading
        from http.server import BaseHTTPRequestHandler, HTTPServer
        from urllib.error import HTTPError
        from urllib.request import urlopen
        from procoro import Pool

        class Absent(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_error(404, "no such page")
            def log_message(self, *_): pass

        def fetch(url):
            with urlopen(url) as answer:
                return answer.read()

        server = HTTPServer(("127.0.0.1", 0), Absent)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Pool(1, model=sys.argv[1]) as pool:
            url = f"http://127.0.0.1:{server.server_port}/page"
            try:
                pool.apply(fetch, (url,))
            except HTTPError as error:
                print(error.code, error.reason, error.url == url, error.headers["Connection"], error.read())
        server.shutdown()
        server.server_close()
        """,
        model,
    )
    assert said == "404 no such page True close b''\n"
