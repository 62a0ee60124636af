"""Every door that a program can come in by: `-c`, standard input, `-m`, a zip, a test runner, a strange path."""

import os
import shutil
import subprocess
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import cloudpickle
import pytest

import procoro
from tests.promises.conftest import PATIENCE, Script

# Functions, classes and globals of a `__main__`, and what comes back of them: "fine", if all is as it should be.
PROGRAM = """
from procoro import Pool
class A:
    def __init__(self, x): self.x = x
N = 3
def helper(x): return A(x + N)
def make(x): return helper(x)
def knows(a): return isinstance(a, A) and a.x
def check():
    with Pool(1) as pool:
        made = [pool.map(make, [1])[0], pool.submit(make, 1).get(), next(pool.imap(lambda x: make(x), [1]))]
        assert [type(one) is A and one.x for one in made] == [4] * 3, made
        assert pool.map(knows, made) == [4] * 3
    print("fine")
check()
"""

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run Python with these arguments to its end; what it printed, on both streams."""

    def run(*arguments: object, given: str = "", status: int = 0, **environment: str) -> str:
        skipped = ("PYTEST_CURRENT_TEST", "PYTHONUNBUFFERED")
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            input=given,
            cwd=tmp_path,
            env={**{name: value for name, value in os.environ.items() if name not in skipped}, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return run


# ------------------------------------------------------------------------------------ without a file


def test_python_c(run: Run) -> None:
    assert run("-c", PROGRAM) == "fine\n"


@pytest.mark.parametrize("arguments", [("-",), ()])
def test_standard_input(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments, given=PROGRAM) == "fine\n"


def test_a_worker_leaves_standard_input_to_the_program(run: Run) -> None:
    """As in multiprocessing."""
    code = "import sys, os\nfrom procoro import Pool\nwith Pool(1) as p: print(p.apply(os.read, (0, 9)), input())"
    assert run("-c", code, given="a\nb\n") == "b'' a\n"


@pytest.mark.parametrize("repl", ["python", "IPython"])
def test_a_prompt_where_a_function_is_defined_again(run: Run, tmp_path: Path, repl: str) -> None:
    (tmp_path / "startup.py").write_text("print('at startup')\nSTARTED = 5\n")
    lines = """
        from procoro import Pool
        class A: pass

        def f(x):
            return A()

        pool = Pool(2)
        print("same", type(pool.map(f, [1])[0]) is A)
        def f(x):
            return x + STARTED

        print("again", pool.map(f, [1]), pool.submit(f, 2).get())
        exit()
        """
    flags = ["-i", "-q"]
    if repl == "IPython":
        pytest.importorskip("IPython")
        flags = ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", f"--ipython-dir={tmp_path}"]
    out = run(*flags, given=dedent(lines), PYTHONSTARTUP=str(tmp_path / "startup.py"))
    assert "same True\n" in out and "again [6] 7\n" in out
    assert out.count("at startup") == 1, "the prompt's own, and no worker's"
    assert "Traceback" not in out


# ------------------------------------------------------------------------------------- modules and packages


@pytest.mark.parametrize("name", ["package", "package.program"])
def test_a_package_whose_functions_import_their_neighbours(run: Run, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "neighbour.py").write_text("V = 3\nclass B: pass\n")
    program = PROGRAM + (
        "from .neighbour import B\n"
        "def near(x):\n"
        "    from . import neighbour\n"
        "    from .neighbour import V\n"
        "    return neighbour.B(), V, __package__, __name__\n"
        "with Pool(1) as pool: made, *rest = pool.apply(near, (1,))\n"
        "print(type(made) is B, *rest)\n"
    )
    for file in ("__main__.py", "program.py"):
        (folder / file).write_text(program)
    assert run("-m", name) == "fine\nTrue 3 package __main__\n"


def test_what_main_does_not_have_its_twin_has_not(run: Run) -> None:
    code = (
        "from procoro import Pool\n"
        "def names(x): return sorted(n for n in globals() if n in ('__file__', '__name__', '__doc__'))\n"
        "with Pool(1) as pool: print(pool.map(names, [1])[0] == names(1))"
    )
    assert run("-c", code) == "True\n"
    assert run("-", given=code + "\n\n") == "True\n"


def test_a_script_that_changes_its_folder_before_and_between(script: Script) -> None:
    assert (
        script(
            """
            import os
            from procoro import Pool

            def here(x): return os.getcwd()

            os.mkdir("one")
            os.chdir("one")
            with Pool(1, maxtasksperchild=1) as pool:
                print(os.path.basename(pool.apply(here, (1,))))
            os.chdir("/")
            with Pool(1) as pool:
                print(pool.apply(here, (1,)))
            """
        )
        == "one\n/\n"
    )


STRAYS = {
    "made by importlib": """
        import importlib.util, sys
        open("a-module.py", "w").write(CODE)
        spec = importlib.util.spec_from_file_location("stray", "a-module.py")
        stray = importlib.util.module_from_spec(spec)
        sys.modules["stray"] = stray
        spec.loader.exec_module(stray)
        """,
    "of a path that was taken away": """
        import os, sys
        os.makedirs("away/package")
        open("away/package/__init__.py", "w").close()
        open("away/package/stray.py", "w").write(CODE)
        sys.path.insert(0, "away")
        from package import stray
        sys.path.remove("away")
        """,
    "of a folder without a file": """
        import os, sys
        os.makedirs("away/space")
        open("away/space/stray.py", "w").write(CODE)
        sys.path.insert(0, "away")
        import space.stray as stray
        sys.path.remove("away")
        """,
}


@pytest.mark.parametrize("how", STRAYS)
def test_modules_that_no_path_leads_to(script: Script, how: str) -> None:
    """A fork would have them; a worker finds them by their files, and so does a worker below it."""
    code = "class A:\n    pass\ndef make(x):\n    return A()\n"
    assert (
        script(
            f"CODE = {code!r}\n"
            + dedent(STRAYS[how])
            + "from procoro import Pool\n"
            + "def below(x):\n    with Pool(1) as pool: return pool.map(stray.make, [x])[0]\n"
            + "with Pool(1) as pool:\n"
            + "    print(type(pool.map(stray.make, [1])[0]) is stray.A, type(pool.apply(below, (1,))) is stray.A)\n"
        )
        == "True True\n"
    )


def test_a_pool_in_a_process_that_multiprocessing_spawned(script: Script) -> None:
    """There, `__main__` is called `__mp_main__`."""
    assert (
        script(
            """
            import multiprocessing
            from procoro import Pool

            class A: pass

            def make(x): return A()

            def child(queue):
                try:
                    with Pool(1) as pool:
                        queue.put([type(pool.map(make, [1])[0]) is A, pool.map(lambda x: isinstance(make(x), A), [1])])
                except BaseException as error:
                    queue.put(repr(error))

            if __name__ == "__main__":
                for method in ("spawn", "forkserver"):
                    context = multiprocessing.get_context(method)
                    queue = context.SimpleQueue()
                    process = context.Process(target=child, args=(queue,))
                    process.start()
                    print(queue.get())
                    process.join()
            """
        )
        == "[True, [True]]\n" * 2
    )


# ----------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("within", [False, True])
def test_a_zipped_application(run: Run, tmp_path: Path, within: bool) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "__main__.py").write_text(
        PROGRAM + "import module, procoro\n"
        "with Pool(1) as pool: print(type(pool.map(module.make, [1])[0]) is module.B, '.pyz' in procoro.__file__)\n"
    )
    (source / "module.py").write_text("class B: pass\ndef make(x): return B()\n")
    if within:
        skipped = shutil.ignore_patterns("__pycache__")
        for package in (procoro, cloudpickle):
            folder = Path(package.__file__).parent
            shutil.copytree(folder, source / folder.name, ignore=skipped)
    zipapp.create_archive(source, tmp_path / "app.pyz")
    flags = ["-I", "-S"] if within else []
    assert run(*flags, "app.pyz") == f"fine\nTrue {within}\n"


def test_a_path_with_spaces_and_letters_of_the_world_and_a_link_to_it(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "a b é 中"
    folder.mkdir()
    (folder / "pro gram ü.py").write_text(PROGRAM)
    (tmp_path / "link.py").symlink_to(folder / "pro gram ü.py")
    assert run(folder / "pro gram ü.py") == "fine\n"
    assert run("link.py", LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0") == "fine\n"


def test_a_filter_of_warnings_imports_no_library(script: Script, tmp_path: Path) -> None:
    """It did: numpy in each worker, before the initializer could tell it how many threads to have."""
    (tmp_path / "library.py").write_text(
        "import os, warnings\nclass Loud(UserWarning): pass\nclass Quiet(UserWarning): pass\nTOLD = os.getenv('TOLD')\n"
    )
    said = script(
        """
        import os, sys, warnings
        import library
        from procoro import Pool, Process
        warnings.simplefilter("error", library.Loud)
        warnings.simplefilter("ignore", library.Quiet)

        def initialize():
            os.environ["TOLD"] = "in time"

        def is_loaded(_=None):
            return "library" in sys.modules

        def nested():
            with Pool(1) as pool:
                return pool.apply(is_loaded)

        def warns():
            import library as loaded
            warnings.warn("quiet", loaded.Quiet)
            try:
                warnings.warn("loud", loaded.Loud)
            except loaded.Loud:
                return loaded.TOLD

        with Pool(1, initialize) as pool:
            print(pool.apply(is_loaded), pool.apply(nested), pool.apply(warns))
        process = Process(target=is_loaded)
        process.start()
        print(process.result())
        """
    )
    assert said == "False False in time\nFalse\n"


# ------------------------------------------------------------------------------------------------ flags

FLAGS = """
import sys, warnings
from procoro import Pool

def flags(x):
    try:
        assert False
        asserts = False
    except AssertionError:
        asserts = True
    found = {name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_" and not name.startswith("n_")}
    own = ("count", "index", "safe_path", "inspect", "interactive")  # the template's, by its own command line
    return ({name: value for name, value in found.items() if name not in own}, sys._xoptions, sys.warnoptions,
            [entry[:3] for entry in warnings.filters], asserts, __debug__, sys.dont_write_bytecode)

def below(x):
    with Pool(1) as pool: return pool.apply(flags, (x,))

with Pool(1) as pool:
    for found in (pool.apply(flags, (1,)), pool.apply(below, (1,))):
        if found != flags(1):  # no assert: some of these flags take them away
            sys.exit(f"{found}\\n{flags(1)}")
print("fine")
"""


@pytest.mark.parametrize(
    "flags",
    [
        "-O -B -W error -bb",
        "-I -X dev",
        "-OO -E -s -X utf8=0 -X int_max_str_digits=5000 -W ignore::DeprecationWarning -W error::UserWarning",
    ],
)
def test_flags_reach_the_workers(run: Run, tmp_path: Path, flags: str) -> None:
    (tmp_path / "program.py").write_text(FLAGS)
    assert run(*flags.split(), "program.py") == "fine\n"


def test_flags_from_the_environment_reach_the_workers(run: Run, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(FLAGS)
    settings = {"PYTHONOPTIMIZE": "1", "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
    assert run("program.py", **settings, PYTHONINSPECT="1", PYTHONHASHSEED="1") == "fine\n"


def test_no_site_packages(run: Run, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(FLAGS)
    places = {Path(package.__file__).parents[1] for package in (procoro, cloudpickle)}
    assert run("-S", "program.py", PYTHONPATH=os.pathsep.join(map(str, places))) == "fine\n"


# ---------------------------------------------------------------------------------------------- runners

TESTS = """
import os, sys
from procoro import Pool

class A: pass

def say(x):
    print("said", x)
    print("error", x, file=sys.stderr)
    return A()

def test_plain():
    with Pool(1) as pool:
        assert type(pool.map(say, [1])[0]) is A

def test_capfd(capfd):
    with Pool(1) as pool:
        pool.map(say, [2])
    assert capfd.readouterr() == ("said 2\\n", "error 2\\n")

def test_capsys(capsys):
    with Pool(1) as pool:
        pool.map(say, [3])
    assert capsys.readouterr() == ("", ""), "only what this process writes"

def test_local(tmp_path, monkeypatch):
    n = 3
    class Local: pass
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINE", "1")
    with Pool(1) as pool:
        assert pool.map(lambda x: x + n, [1]) == [4]
        assert type(pool.submit(lambda: Local()).get()) is Local
        assert pool.submit(lambda: (os.getcwd(), os.environ["MINE"])).get() == (str(tmp_path), "1")

forgotten = None

def test_forgets():
    global forgotten
    forgotten = Pool(1)
    assert forgotten.map(abs, [-1]) == [1]

def test_fails():
    with Pool(1) as pool:
        pool.map(say, [4])
    assert 0
"""


@pytest.mark.parametrize("flags", ["", "--capture=sys", "-s --import-mode=importlib"])
def test_pytest(run: Run, tmp_path: Path, flags: str) -> None:
    folder = tmp_path / "inner" / "tests"
    folder.mkdir(parents=True)
    (folder / "test_inner.py").write_text(TESTS)
    (folder.parent / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    out = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *flags.split(), folder / "test_inner.py", status=1)
    assert "1 failed, 5 passed" in out
    assert ("Captured stdout call" in out) == (flags == "")
    assert out.count("said 4") == 1 and out.count("error 4") == 1, "once: as captured, or as it came"
    assert "said 2" not in out, "capfd has taken it"


def test_doctest_unittest_runpy_and_exec(run: Run, tmp_path: Path) -> None:
    (tmp_path / "documented.py").write_text(
        '"""\n'
        ">>> from procoro import Pool\n"
        ">>> def f(x): return x + 1\n"
        ">>> class A: pass\n"
        ">>> with Pool(1) as p: p.map(f, [1]), p.map(g, [1]), p.map(lambda x: f(x), [1])\n"
        "([2], [3], [2])\n"
        ">>> with Pool(1) as p: type(p.map(lambda x: A(), [1])[0]) is A\n"
        "True\n"
        '"""\n'
        "def g(x): return x + 2\n"
        "if __name__ == '__main__':\n"
        "    import doctest\n"
        "    print(doctest.testmod())\n"
    )
    assert run("documented.py") == "TestResults(failed=0, attempted=5)\n"
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.move(tmp_path / "documented.py", folder)
    assert run("-m", "doctest", folder / "documented.py") == ""

    (tmp_path / "test_unit.py").write_text(
        "import unittest\n"
        "from procoro import Pool\n"
        "class A: pass\n"
        "def f(x): return A()\n"
        "class Tests(unittest.TestCase):\n"
        "    def add(self, x): return x + 1\n"
        "    def test(self):\n"
        "        with Pool(1) as p:\n"
        "            self.assertIs(type(p.map(f, [1])[0]), A)\n"
        "            self.assertEqual(p.map(self.add, [1]), [2])\n"
        "if __name__ == '__main__': unittest.main()\n"
    )
    assert run("-W", "error", "test_unit.py").endswith("OK\n")
    assert run("-W", "error", "-m", "unittest", "test_unit").endswith("OK\n")

    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "runs.py").write_text(
        "import runpy\n"
        "if __name__ == '__main__':\n"
        "    runpy.run_path('program.py', run_name='__main__')\n"
        "    runpy.run_module('program', run_name='__main__', alter_sys=True)\n"
        "    code = compile(open('program.py').read(), 'program', 'exec')\n"
        "    for names in ({'__name__': 'mine'}, {'__name__': '__main__'}):\n"
        "        exec(code, names)\n"
    )
    assert run("runs.py") == "fine\n" * 4
