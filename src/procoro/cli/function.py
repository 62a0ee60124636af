"""FUNCTION of the command line: `module:name` or `path/to/file.py:name`, loaded as workers will load it."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from procoro.cli.answer import ByName, resolve, with_article


class FunctionError(Exception):
    """FUNCTION names nothing that can be called; the message says what is wrong with it."""


def load(words: str) -> ByName:
    """Import the function that `words` name. What its module needs on `sys.path` is put there.

    A file's own folder comes first on `sys.path`, as for `python file.py`; for a module it is the current
    folder, as for `python -m module`.

    Raises:
        FunctionError: with words for the user.
    """
    place, colon, name = words.rpartition(":")
    if not colon or not place or not all(part.isidentifier() for part in name.split(".")):
        raise FunctionError(f"{words!r} is neither module:name nor path/to/file.py:name")
    if place.endswith(".py") or os.sep in place:
        module = _module_of_file(place)
    else:
        module = _module_by_name(place)
    return ByName(_found(module, name), module.__name__, name)


def _module_of_file(path: str) -> ModuleType:
    path = os.path.abspath(path)
    folder, file = os.path.split(path)
    stem, extension = os.path.splitext(file)
    if not os.path.isfile(path):
        raise FunctionError(f"there is no file {path}")
    if extension != ".py" or "." in stem or stem.startswith("__"):
        raise FunctionError(f"{file} cannot be imported as a module; the file must be called NAME.py")
    _refuse_taken(stem, path)
    sys.path.insert(0, folder)
    return _imported(stem)


def _refuse_taken(stem: str, path: str) -> None:
    """Refuse a file whose name is another module's: one of them would hide the other."""
    try:
        spec = importlib.util.find_spec(stem)
    except (ImportError, ValueError):  # a module without a spec; nothing on the path says that it is another
        return
    if spec is None or (spec.origin is not None and os.path.realpath(spec.origin) == os.path.realpath(path)):
        return
    if spec.origin is None:  # a plain folder of that name is no rival: a file comes first
        return
    raise FunctionError(f"the module name {stem!r} of {path} already belongs to {spec.origin}: rename the file")


def _module_by_name(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise FunctionError(f"{name!r} is not the name of a module")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    return _imported(name)


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            where = f"in {os.getcwd()} or elsewhere on sys.path"
            raise FunctionError(f"there is no module {error.name!r} {where}") from None
        raise FunctionError(_failed(f"importing {name}", error)) from error
    except SystemExit as error:
        ending = f"sys.exit({error.code!r})" if error.code is not None else "sys.exit()"
        raise FunctionError(
            f"importing {name} ended in {ending}: what a script does by itself "
            f'belongs under `if __name__ == "__main__":`'
        ) from None
    except Exception as error:  # the user's module may raise anything
        raise FunctionError(_failed(f"importing {name}", error)) from error


def _failed(what: str, error: Exception) -> str:
    """The story of user's code that raised, from the user's first line on."""
    ours = ("importlib", os.path.dirname(__file__))
    trace = error.__traceback__
    while trace is not None and any(part in trace.tb_frame.f_code.co_filename for part in ours):
        trace = trace.tb_next
    story = "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    hint = ""
    if isinstance(error, ImportError) and "relative import" in str(error):
        hint = "\nIt is part of a package: name it package.module:name, in the folder that holds the package."
    return f"{what} failed:\n{story}{hint}"


def _found(module: ModuleType, name: str) -> Callable[[Any], Any]:
    try:
        function: Callable[[Any], Any] = resolve(module.__name__, name)
    except AttributeError:
        near = difflib.get_close_matches(name, [key for key, value in vars(module).items() if callable(value)])
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise FunctionError(f"{module.__name__} ({module.__file__}) has no {name!r}{hint}") from None
    except Exception as error:  # a module's `__getattr__` and properties are the user's code
        raise FunctionError(_failed(f"looking up {name} in {module.__name__}", error)) from error
    if not callable(function):
        raise FunctionError(f"{module.__name__}:{name} is {with_article(function)}, not a function")
    return function
