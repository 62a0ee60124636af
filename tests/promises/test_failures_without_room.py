"""A failure that cannot be told, for want of a descriptor or of a pickler, ends its call all the same."""

import pickle
from typing import Any, NoReturn

import pytest

from procoro import Pool
from procoro.errors import WorkerDied
from tests.promises import calls
from tests.promises.conftest import Script
from tests.promises.looks import PATIENCE

MODELS: list[Any] = [None, "threads", "greenlets", "asyncio"]


@pytest.mark.parametrize("model", MODELS)
def test_a_call_that_has_used_up_all_descriptors(model: str | None, script: Script) -> None:
    printed = script(
        """
        import resource, sys
        from procoro import Pool

        kept = []

        def leak():
            while True:
                kept.append(open("/dev/null"))

        def large():
            try:
                leak()
            except OSError:
                raise ValueError("x" * 300_000)

        async def aleak():
            leak()

        async def alarge():
            large()

        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        model = sys.argv[1] if len(sys.argv) > 1 else None
        with Pool(1, model=model) as pool:
            for call in (leak, large) if model != "asyncio" else (aleak, alarge):
                error = pool.submit(call).exception(20)
                print(type(error).__name__, getattr(error, "errno", None))
        """,
        *([] if model is None else [model]),
    )
    assert printed in ("OSError 24\nOSError 24\n", "OSError 24\nValueError None\n")


def fail(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("patched")


def break_pickling() -> NoReturn:
    pickle.dumps = pickle.Pickler = fail  # type: ignore[misc, assignment]
    raise ValueError("of which nobody can be told")


async def abreak_pickling() -> NoReturn:
    break_pickling()


@pytest.mark.parametrize("model", MODELS)
def test_a_call_that_has_broken_pickling(model: str | None) -> None:
    is_async = model == "asyncio"
    with Pool(1, model=model) as pool:
        error = pool.submit(abreak_pickling if is_async else break_pickling).exception(PATIENCE)
        assert isinstance(error, WorkerDied) and error.exitcode == 1
        assert pool.submit(calls.double if not is_async else adouble, 2).get(PATIENCE) == 4


async def adouble(x: int) -> int:
    return 2 * x
