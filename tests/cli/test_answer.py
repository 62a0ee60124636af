import asyncio
import functools
import inspect
import json
import pickle
import subprocess
import sys
from collections import OrderedDict
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procoro.cli.answer import ByName, answering, to_json
from tests.cli import sample_functions

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def answer(value: object) -> bytes | str:
    """What a function that returns `value` answers."""
    function = ByName(lambda _: value, __name__, "function")
    number, answer = answering(function)((7, None))
    assert number == 7
    return answer


@given(json_values)
def test_a_value_comes_back_as_one_line_of_json(value: object) -> None:
    row = answer(value)
    assert isinstance(row, bytes)
    assert b"\n" not in row
    assert json.loads(row) == value


def test_text_is_written_as_it_reads_and_lone_surrogates_as_escapes() -> None:
    assert to_json("雪芙") == '"雪芙"'.encode()
    assert to_json("b\udcff.txt") == b'"b\\udcff.txt"'


def itself() -> list[object]:
    value: list[object] = []
    value.append({"again": value})
    return value


def deep() -> list[object]:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value, words",
    [
        ({1, 2}, "result: a set is not JSON"),
        ({"rows": [1, {"tags": {1}}]}, "result['rows'][1]['tags']: a set is not JSON"),
        ([0.5, float("nan")], "result[1]: nan is not JSON"),
        ({"a": float("-inf")}, "result['a']: -inf is not JSON"),
        ({(1, 2): 3}, "result: the key (1, 2) is a tuple; JSON has str keys"),
        ((Decimal(1),), "result[0]: a decimal.Decimal is not JSON"),
        (OrderedDict(x=b"1"), "result['x']: a bytes is not JSON"),
        (itself(), "result[0]['again']: it contains itself"),
        (deep(), "result: nested too deeply for JSON"),
    ],
)
def test_what_is_not_json_is_named_with_its_path(value: object, words: str) -> None:
    assert answer(value) == words


def test_an_input_that_could_not_be_read_calls_nothing() -> None:
    called: list[object] = []
    function = ByName(called.append, __name__, "function")
    assert answering(function)((3,)) == (3, b"")
    assert called == []


@pytest.mark.parametrize("name", ["double", "nameless", "shouter.shout", "Shouter.whisper"])
def test_whatever_has_a_name_travels_by_it(name: str) -> None:
    function = functools.reduce(getattr, name.split("."), sample_functions)
    sent = answering(ByName(function, sample_functions.__name__, name))
    arrived = pickle.loads(pickle.dumps(sent))
    assert arrived.__qualname__ == name
    assert arrived((0, "Ab")) == sent((0, "Ab"))


def test_a_coroutine_function_is_still_one_here_and_there() -> None:
    sent = answering(ByName(sample_functions.double_later, sample_functions.__name__, "double_later"))
    assert inspect.iscoroutinefunction(sent)
    assert inspect.iscoroutinefunction(pickle.loads(pickle.dumps(sent)))


def test_workers_do_not_import_the_command_line() -> None:
    program = "import sys, procoro.cli.answer; print(*sorted(sys.modules.keys() & {'click', 'rich', 'glob'}))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out == "\n"


class Later:
    async def __call__(self, value: int) -> int:
        return 2 * value


def test_an_object_whose_call_is_a_coroutine_is_awaited() -> None:
    assert asyncio.run(answering(ByName(Later(), "module", "later"))((7, 4))) == (7, b"8")
