"""Who starts a pool loads what every call needs, and no more."""

from collections.abc import Callable

Script = Callable[[str], str]


def test_what_is_seldom_needed_is_loaded_when_it_is(script: Script) -> None:
    """The errors alone bring a quarter of the standard library along: BrokenProcessPool, multiprocessing."""
    printed = script(
        """
        import sys
        from procoro import Pool

        SELDOM = ["procoro.errors", "multiprocessing", "concurrent.futures.process", "asyncio", "cloudpickle", "gevent"]

        def loaded():
            import sys
            return [name for name in ["logging", "subprocess", *SELDOM] if name in sys.modules]

        with Pool(1) as pool:
            assert pool.submit(len, "ab").get() == 2 and list(pool.imap(len, ["ab"])) == [2]
            print([name for name in SELDOM if name in sys.modules])
            print(pool.apply(loaded))
            print(repr(pool.submit(int, "x").exception()), "procoro.errors" in sys.modules)
        """
    )
    assert printed == "[]\n[]\nValueError(\"invalid literal for int() with base 10: 'x'\") True\n"
