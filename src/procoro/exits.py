"""What becomes of pools when the program ends or forks: an executor finishes, a forgotten pool is terminated."""

from __future__ import annotations

import threading
import time
import weakref

TYPE_CHECKING = False  # by hand, see pool.py
if TYPE_CHECKING:
    from procoro.conductor.conductor import Conductor
    from procoro.pool import Pool

LEAVING = 3.0  # seconds that workers are given, at exit

pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_finishing: set[Conductor] = set()  # of executors: held here, for one may be dropped while its calls run
_begun = False


def finish(conductor: Conductor) -> None:
    """At exit, let its calls run to their end instead of terminating it."""
    for one in [one for one in _finishing if one.ended.is_set()]:
        _finishing.discard(one)
    _finishing.add(conductor)


def end_all() -> None:
    """At exit: end what is still there."""
    global _begun
    if not (pools or _finishing):
        return
    from procoro.scheduler import messages as m

    executors = [conductor for conductor in _finishing if not conductor.ended.is_set()]
    try:
        for pool in list(pools):
            if pool._conductor in executors:
                pool.close()
        for conductor in executors:
            conductor.tell(m.Unbounded())
            conductor.ended.wait()
    finally:  # also at a Ctrl-C
        living = {*executors, *(pool._conductor for pool in pools)}
        if living:
            _begun = True
        for pool in list(pools):
            pool._state = "TERMINATE"
        for conductor in living:
            conductor.tell(m.TerminateAsked())
        deadline = time.monotonic() + LEAVING
        for conductor in living:  # a callback that does not return may hold them; the lifeline ends what is left
            conductor.ended.wait(max(0.0, deadline - time.monotonic()))


def stay(conductor: Conductor) -> None:
    """Before an error is raised that only says that all is over: is that because the interpreter goes down?

    Then what is left of the user's threads was left to die; one that prints its traceback now would abort the process.
    So it sleeps for ever.
    """
    if _begun and threading.current_thread() is not threading.main_thread() and not conductor.crank.is_here():
        threading.Event().wait()


def forget_in_child() -> None:
    """In a child that was forked: the pools are its parent's."""
    for pool in list(pools):
        pool._state = "FORKED"
        pool._lock = threading.RLock()
    pools.clear()
    _finishing.clear()
