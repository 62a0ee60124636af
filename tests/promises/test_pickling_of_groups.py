"""Exceptions that hold others: groups, causes that lead in a circle; and those that let nothing be set on them."""

import dataclasses
import threading
import traceback

import pytest

from procoro import Pool
from procoro.errors import RemoteError, failed_call
from tests.promises import calls
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE
from tests.promises.test_pickling_of_exceptions import Required, long_chain, pool, thrown, with_odd_notes

__all__ = ["pool"]


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Group(ExceptionGroup[Exception]):
    def __init__(self, message: str, members: list[Exception]) -> None:
        super().__init__(message, members)
        self.own = "attribute"


class HeldGroup(Group):
    def __init__(self, message: str, members: list[Exception]) -> None:
        super().__init__(message, members)
        self.lock = threading.Lock()


def fails_as_a_group() -> None:
    inner = ExceptionGroup("inner", [KeyError("k"), Required(code=3)])
    raise ExceptionGroup("outer", [ValueError(1), inner])


def test_groups(pool: Pool) -> None:
    for _ in range(2):
        with pytest.raises(ExceptionGroup, match="outer") as caught:
            pool.submit(fails_as_a_group).get(PATIENCE)
        first, inner = caught.value.exceptions
        assert type(first) is ValueError and isinstance(inner, ExceptionGroup)
    error = thrown(pool, lambda: BaseExceptionGroup("b", [KeyboardInterrupt("k"), ValueError(2)]))
    assert isinstance(error, BaseExceptionGroup) and list(map(type, error.exceptions)) == [
        KeyboardInterrupt,
        ValueError,
    ]
    error = thrown(pool, lambda: Group("own", [ValueError(1)]))
    assert type(error) is Group and error.own == "attribute" and error.exceptions[0].args == (1,)


def test_a_frozen_exception_and_its_cause(pool: Pool) -> None:
    def fail() -> None:
        raise ValueError("outer") from Frozen(3)

    error = pool.submit(fail).exception(PATIENCE)
    assert error is not None and isinstance(error.__cause__, Frozen) and error.__cause__.code == 3


def test_a_groups_members_that_cannot_be_rebuilt_harm_no_other(pool: Pool) -> None:
    def fail() -> None:
        held = calls.Held("held")
        held.add_note("a note")
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [KeyError("k"), held]), Required(code=3)])

    error = pool.submit(fail).exception(PATIENCE)
    assert type(error) is ExceptionGroup and error.message == "outer"
    inner, last = error.exceptions
    assert isinstance(inner, ExceptionGroup) and type(last) is Required and last.code == 3
    assert type(inner.exceptions[0]) is KeyError and type(inner.exceptions[1]) is RemoteError
    assert str(inner.exceptions[1]) == "tests.promises.calls.Held: held" and inner.exceptions[1].__notes__ == ["a note"]
    error = thrown(pool, lambda: HeldGroup("own", [ValueError(1)]))
    assert type(error) is ExceptionGroup and "HeldGroup: own" in str(error) and error.exceptions[0].args == (1,)


def test_members_have_causes_of_their_own(pool: Pool) -> None:
    def fail() -> None:
        try:
            with_cause()
        except LookupError as error:
            raise ExceptionGroup("all", [error]) from None

    def with_cause() -> None:
        raise LookupError("member") from Required(code=4)

    error = pool.submit(fail).exception(PATIENCE)
    assert isinstance(error, ExceptionGroup)
    (member,) = error.exceptions
    assert error.__context__ is member and isinstance(member.__cause__, Required) and member.__cause__.code == 4


def test_causes_that_lead_in_a_circle(pool: Pool) -> None:
    def fail() -> None:
        first, second = ValueError("first"), KeyError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    error = pool.submit(fail).exception(PATIENCE)
    assert error is not None and isinstance(error.__cause__, KeyError)
    assert error.__cause__.__cause__ is error


def test_a_cause_is_the_context_too(pool: Pool) -> None:
    error = pool.submit(long_chain, 20).exception(PATIENCE)
    assert error is not None and error.__context__ is error.__cause__ is not None


def test_whatever_its_notes_are_the_workers_traceback_is_told(pool: Pool) -> None:
    for notes in (5, None, "text", [1]):
        error = pool.submit(with_odd_notes, notes).exception(PATIENCE)
        assert "raised in worker" in "".join(traceback.format_exception(error))


def test_a_frozen_exception(pool: Pool) -> None:
    error = thrown(pool, lambda: Frozen(5))
    assert isinstance(error, Frozen) and error.code == 5 and failed_call(error) is not None


def test_except_star_finds_the_programs_own_class(script: Script) -> None:
    said = script(
        """
        from procoro import Pool

        class Mine(Exception):
            def __init__(self, code, *, words):
                super().__init__(f"{code}: {words}")
                self.code = code

        class Group(ExceptionGroup):
            def derive(self, members): return Group(self.message, members)

        def fail(x):
            raise Group("all", [Mine(x, words="no"), ValueError(x)])

        with Pool(1) as pool:
            try:
                pool.submit(fail, 8).get()
            except* Mine as group:
                print(type(group).__name__, group.exceptions[0].code)
            except* ValueError:
                print("the rest")
        """
    )
    assert said == "Group 8\nthe rest\n"
