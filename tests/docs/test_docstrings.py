"""The examples in docstrings do what they show."""

import doctest
import io

import pytest

import procoro.executor
import procoro.pool
import procoro.results

MODULES = [procoro.executor, procoro.pool, procoro.results]


def examples() -> list[doctest.DocTest]:
    """The docstrings that have any."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for module in MODULES for test in finder.find(module) if test.examples]


@pytest.mark.parametrize("test", [pytest.param(one, id=one.name) for one in examples()])
def test_a_docstring(test: doctest.DocTest) -> None:
    said = io.StringIO()
    doctest.DocTestRunner(verbose=False).run(test, out=said.write)
    assert said.getvalue() == ""


def test_there_are_some() -> None:
    assert {"procoro.pool.Pool", "procoro.pool.Pool.submit"} <= {test.name for test in examples()}
