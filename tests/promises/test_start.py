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


def test_a_template_starts_before_all_that_it_need_not_wait_for(script: Script) -> None:
    """A template takes as long to start as a pool takes to import what it needs itself: the two at once."""
    printed = script(
        """
        import os, sys
        spawn = os.posix_spawn
        HEAVY = ["typing", "re", "enum", "pickle", "socket", "selectors", "procoro.conductor"]

        def posix_spawn(*args, **kwargs):
            print([name for name in HEAVY if name in sys.modules])
            return spawn(*args, **kwargs)

        os.posix_spawn = posix_spawn
        from procoro import Pool

        with Pool(1) as pool:
            print(pool.apply(len, ("ab",)))
        """
    )
    assert printed == "[]\n2\n"
