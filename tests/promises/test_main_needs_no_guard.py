"""Promise 7: functions and classes of `__main__` work, and work together, with no guard."""

import subprocess
from pathlib import Path

import pytest

from tests.promises.conftest import Script, Start


def test_functions_that_call_c_code_which_imports(script: Script) -> None:
    """It looks for `__import__` in the globals of who has called it."""
    assert (
        script(
            """
            import datetime
            from procoro import Pool

            def year(text):
                return datetime.datetime.strptime(text, "%Y").year

            with Pool(1) as pool:
                print(pool.submit(year, "2020").get(), pool.map(year, ["2021"]))
            """
        )
        == "2020 [2021]\n"
    )


def test_functions_lambdas_and_closures_of_a_script(script: Script) -> None:
    assert (
        script(
            """
            import functools, math
            from procoro import Pool

            N = 10

            def helper(x):
                return x + N

            def f(x):
                return helper(x) * 2

            def recursive(n):
                return 1 if n == 0 else n * recursive(n - 1)

            def adder(n):
                def add(x):
                    return helper(x) + n
                return add

            class Power:
                def __init__(self, n): self.n = n
                def __call__(self, x): return x ** self.n
                def method(self, x): return helper(x) ** self.n
                @classmethod
                def of(cls, x): return cls(x).n
                @staticmethod
                def plain(x): return helper(x)

            print("once")
            pool = Pool(2)
            for function in (f, recursive, lambda x: helper(x), adder(5), Power(2), Power(2).method, Power.of,
                             Power.plain, functools.partial(pow, 2), math.sqrt, str):
                assert pool.map(function, range(20)) == list(map(function, range(20))), function
                assert pool.submit(function, 4).get() == function(4)
                assert list(pool.imap(function, iter(range(20)))) == list(map(function, range(20)))
            pool.close()
            pool.join()
            print("done")
            """
        )
        == "once\ndone\n"
    )


def test_instances_come_back_as_the_callers_class(script: Script) -> None:
    assert (
        script(
            """
            import collections, dataclasses, enum, typing
            from procoro import Pool

            class Point:
                def __init__(self, x): self.x = x

            class Deep(Point):
                class Inner:
                    pass

            @dataclasses.dataclass
            class Data:
                x: int

            class Color(enum.Enum):
                RED = 1

            Pair = collections.namedtuple("Pair", "a b")

            class Named(typing.NamedTuple):
                a: int

            class Oops(Exception):
                pass

            def makes(x):
                return [Point(x), Deep(x), Deep.Inner(), Data(x), Color.RED, Pair(1, 2), Named(3), Point, Oops("words")]

            def knows(p):
                return isinstance(p, Point) and p.x

            def fails(x):
                raise Oops("mine", x)

            TYPES = [Point, Deep, Deep.Inner, Data, Color, Pair, Named, type, Oops]
            with Pool(2) as pool:
                for many in (pool.map(makes, range(5)), [pool.submit(makes, 1).get()], list(pool.imap(makes, [1]))):
                    for made in many:
                        assert list(map(type, made)) == TYPES, list(map(type, made))
                        assert made[4] is Color.RED and made[7] is Point and made[5] == Pair(1, 2)
                assert pool.map(makes, [4])[0][3] == Data(4)
                assert pool.map(knows, [Point(7), Deep(8)]) == [7, 8]
                assert pool.submit(knows, Deep(9)).get() == 9
                try:
                    pool.submit(fails, 1).get()
                except Oops as error:
                    print("caught", error.args)
            """
        )
        == "caught ('mine', 1)\n"
    )


def test_a_notebooks_changed_globals(script: Script) -> None:
    assert script(
        """
            from procoro import Pool

            cells = [
                "pool = Pool(2)",
                "N = 1",
                "def f(x): return x * N",
                "print(pool.map(f, [1, 2, 3]))",
                "N = 2",
                "print(pool.map(f, [1, 2, 3]), pool.submit(f, 4).get(), list(pool.imap(f, [5])))",
                "def f(x): return -x * N",
                "print(pool.map(f, [1, 2, 3]), pool.submit(f, 4).get())",
                "table = {'a': 1}",
                "def look(key): return table.get(key)",
                "print(pool.map(look, ['a', 'b']))",
                "table['b'] = 2",
                "print(pool.map(look, ['a', 'b']))",
                "def helper(x): return x",
                "def g(x): return helper(x)",
                "print(pool.submit(g, 1).get())",
                "def helper(x): return x + 100",
                "print(pool.submit(g, 1).get(), pool.map(g, [2]))",
                "class A:\\n    value = 1",
                "def make(_=None): return A()",
                "print(type(pool.submit(make).get()) is A, pool.submit(make).get().value)",
                "class A:\\n    value = 2",
                "print(type(pool.submit(make).get()) is A)",
                "print(pool.submit(make).get().value, pool.map(make, [1])[0].value)",
                "N = 3",
                "import math; lam = lambda x: (x + N, math.floor(1.5))",
                "print(pool.submit(lam, 1).get())",
                "del N",
                "N = 5",
                "print(pool.submit(lam, 1).get())",
                "pool.terminate()",
            ]
            for cell in cells:
                exec(cell, globals())
            """
    ).splitlines() == [
        "[1, 2, 3]",
        "[2, 4, 6] 8 [10]",
        "[-2, -4, -6] -8",
        "[1, None]",
        "[1, 2]",
        "1",
        "101 [102]",
        "True 1",
        "True",
        "2 2",
        "(4, 1)",
        "(6, 1)",
    ]


def test_what_calls_change_in_a_global_stays_with_their_worker(script: Script) -> None:
    assert (
        script(
            """
            from procoro import Pool

            count = 0
            seen = []

            def call(x):
                global count
                count += 1
                seen.append(x)
                return count, len(seen)

            with Pool(1) as pool:
                print([pool.submit(call, x).get() for x in range(3)], count, seen)
            """
        )
        == "[(1, 1), (2, 2), (3, 3)] 0 []\n"
    )


@pytest.mark.parametrize("how", ["-c", "stdin", "-i"])
def test_code_that_has_no_file(start: Start, how: str) -> None:
    code = "from procoro import Pool\nN = 3\nf = lambda x: x + N\nwith Pool(2) as p: print(p.map(f, [1, 2]))\n\n"
    if how == "-c":
        process = start("", flags=("-c", code))
        out, said = process.communicate(timeout=10)
    else:
        flags = ("-",) if how == "stdin" else ("-i", "-q")
        process = start("", flags=flags, stdin=subprocess.PIPE)
        out, said = process.communicate(code, timeout=10)
    assert out == "[4, 5]\n" and process.returncode == 0
    assert "Traceback" not in said


def test_a_module_run_by_name(start: Start, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "from procoro import Pool\n"
        "class A: pass\n"
        "def f(x): return A\n"
        "with Pool(2) as p: print(p.map(f, [1]) == [A], p.submit(f, 1).get() is A, A.__module__)\n"
    )
    process = start("", flags=("-m", "program"))
    assert process.communicate(timeout=10) == ("True True __main__\n", "")


def test_a_guarded_script_works_as_well(script: Script) -> None:
    assert (
        script(
            """
            from procoro import Pool

            def f(x):
                return x + 1

            def main():
                class Local:
                    def __init__(self, x): self.x = x
                def inner(x):
                    return Local(f(x)).x
                with Pool(2) as pool:
                    print(pool.map(inner, [1, 2]))
                    made = pool.submit(lambda: Local(3)).get()
                    print(made.x)

            if __name__ == "__main__":
                main()
            """
        )
        == "[2, 3]\n3\n"
    )


def test_a_worker_has_the_callers_state(script: Script) -> None:
    assert (
        script(
            """
            import os, sys, warnings
            from procoro import Pool

            os.environ["MINE"] = "1"
            os.environ.pop("HOME", None)
            os.chdir("/")
            sys.path.append("/nowhere")
            sys.setrecursionlimit(2345)
            os.umask(0o027)

            def state(_=None):
                return (os.environ.get("MINE"), os.environ.get("HOME"), os.getcwd(), sys.path, sys.argv,
                        sys.getrecursionlimit(), os.umask(0o027), __name__, __file__)

            with Pool(1) as pool:
                print(pool.apply(state) == state(), state()[6:8])
            """,
            "argument",
        )
        == "True (23, '__main__')\n"
    )
