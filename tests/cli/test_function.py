import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from procoro.cli.function import FunctionError, load

MODULE = """
def double(x): return 2 * x
class Thing:
    @staticmethod
    def make(x): return [x]
number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with some modules; imports are forgotten afterwards."""
    (tmp_path / "sub" / "pack").mkdir(parents=True)
    (tmp_path / "sub" / "thing_in_file.py").write_text(MODULE)
    (tmp_path / "thing_here.py").write_text(MODULE)
    (tmp_path / "sub" / "pack" / "relative.py").write_text("from . import other\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_file_is_imported_with_its_folder_first_on_the_path(folder: Path) -> None:
    assert load("sub/thing_in_file.py:double")(4) == 8
    assert sys.path[0] == str(folder / "sub")
    assert load(f"{folder}/sub/thing_in_file.py:Thing.make")(4) == [4]


def test_a_module_is_found_in_the_current_folder(folder: Path) -> None:
    function = load("thing_here:double")
    assert function(4) == 8
    assert (function.module, function.name) == ("thing_here", "double")
    assert str(folder) in sys.path


def test_a_module_of_the_library_is_found_too() -> None:
    assert load("os.path:basename")("a/b") == "b"


@pytest.mark.parametrize(
    "words, message",
    [
        ("thing_here", "'thing_here' is neither module:name nor path/to/file.py:name"),
        ("thing_here:", "neither module:name"),
        (":double", "neither module:name"),
        ("thing_here:a b", "neither module:name"),
        ("thing-here:double", "'thing-here' is not the name of a module"),
        ("nowhere.at.all:f", "there is no module 'nowhere' in "),
        ("os.nowhere:f", "there is no module 'os.nowhere' in "),
        ("nowhere.py:f", "there is no file .*/nowhere.py"),
        ("sub:f", "has no 'f'"),
        ("thing_here:dubble", r"thing_here \(.*thing_here.py\) has no 'dubble'; did you mean double\?"),
        ("thing_here:Thing.none", "has no 'Thing.none'"),
        ("thing_here:number", "thing_here:number is an int, not a function"),
    ],
)
def test_what_names_no_function_is_refused_in_words(words: str, message: str) -> None:
    with pytest.raises(FunctionError, match=message):
        load(words)


@pytest.mark.parametrize("name", ["json", "rich", "sys", "statistics"])
def test_a_file_with_the_name_of_another_module_is_refused(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text(MODULE)
    with pytest.raises(FunctionError, match=f"the module name '{name}' of .*{name}.py already belongs to .*: rename"):
        load(f"./{name}.py:double")


@pytest.mark.parametrize("name", ["two.dots.py", "__init__.py", "script.txt"])
def test_a_file_that_is_no_module_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text(MODULE)
    with pytest.raises(FunctionError, match=r"cannot be imported as a module; the file must be called NAME\.py"):
        load(f"./{name}:double")


def test_a_module_that_raises_is_told_from_its_own_first_line(folder: Path) -> None:
    (folder / "raising.py").write_text("def f(): 1 / 0\nf()\n")
    with pytest.raises(FunctionError) as caught:
        load("raising.py:f")
    lines = str(caught.value).splitlines()
    assert lines[0] == "importing raising failed:"
    assert lines[2] == f'  File "{folder}/raising.py", line 2, in <module>'
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_a_module_whose_own_import_fails_is_not_called_missing(folder: Path) -> None:
    (folder / "needy.py").write_text("import no_such_thing\n")
    with pytest.raises(FunctionError, match=r"importing needy failed:\n(.*\n)*ModuleNotFoundError: No module named"):
        load("needy:f")


def test_a_part_of_a_package_is_told_how_to_be_named() -> None:
    with pytest.raises(FunctionError, match=r"It is part of a package: name it package\.module:name"):
        load("sub/pack/relative.py:f")


def test_a_script_that_exits_is_told_about_its_main_guard(folder: Path) -> None:
    (folder / "script.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(FunctionError, match=r"importing script ended in sys.exit\(3\): .*__main__"):
        load("script:f")


def test_the_current_folder_comes_before_the_library(folder: Path) -> None:
    """As for `python -m`."""
    (folder / "this.py").write_text("def own(x): return x\n")
    assert load("this:own")(4) == 4
