"""Runs CPython's own tests of `Future` on `Result`: `python -m tests.futures_of_cpython [LIB/test OF A CPYTHON]`.

They come with the interpreter (`test.test_concurrent_futures`), where its packagers left them in; else with a
copy of CPython's source, whose `Lib/test` is the argument.
"""

import importlib
import sys
import unittest
from concurrent.futures import _base

import test

from procoro import Result


def load(folder: str | None = None) -> unittest.TestSuite:
    """The tests, made to test `Result`. ImportError: they are not installed."""
    if folder is not None:
        test.__path__.append(folder)
    original = _base.Future
    _base.Future = type("Future", (Result,), {})  # type: ignore[misc]  # the name that they expect in a repr
    try:
        try:
            module = importlib.import_module("test.test_concurrent_futures.test_future")
        except ModuleNotFoundError:
            module = importlib.import_module("test.test_concurrent_futures")
    finally:
        _base.Future = original  # type: ignore[misc]
    return unittest.defaultTestLoader.loadTestsFromTestCase(module.FutureTests)


if __name__ == "__main__":
    outcome = unittest.TextTestRunner(verbosity=2).run(load(*sys.argv[1:]))
    sys.exit(not outcome.wasSuccessful())
