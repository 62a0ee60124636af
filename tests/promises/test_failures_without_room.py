"""A failure of which no descriptor is left to tell ends its call all the same."""

from typing import Any

import pytest

from tests.promises.conftest import Script

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
