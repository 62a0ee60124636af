"""The faults, in the order of the table: to add one, write its function and a row here.

The docstring of each function says what is done and what counts as `ok`. A fault returns for `ok`, and raises `Wrong`
or `NotOffered`; any other exception is one that came where a result was due.
"""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.faults import deaths, lifetime, parent, streams, travel
from benchmarks.faults.systems import Adapter


@dataclass(frozen=True, slots=True)
class Fault:
    """`limit`: seconds after which a cell that has said nothing hangs."""

    name: str
    run: Callable[[type[Adapter]], None]
    limit: float = 20.0


FAULTS = (
    Fault("kill9_keeps_others", deaths.kill9_keeps_others),
    Fault("kill9_pool_goes_on", deaths.kill9_pool_goes_on),
    Fault("kill9_map_ends", deaths.kill9_map_ends),
    Fault("kill9_names_call", deaths.kill9_names_call),
    Fault("kill9_idle_worker", deaths.kill9_idle_worker),
    Fault("segfault", deaths.segfault),
    Fault("os_exit", deaths.os_exit),
    Fault("sys_exit", deaths.sys_exit),
    Fault("bad_argument", travel.bad_argument),
    Fault("bad_result", travel.bad_result),
    Fault("result_unpickle_fails", travel.result_unpickle_fails),
    Fault("exception_not_rebuildable", travel.exception_not_rebuildable),
    Fault("traceback_and_cause", travel.traceback_and_cause),
    Fault("lambda", travel.lambda_),
    Fault("main_function", travel.main_function),
    Fault("hog_timeout", lifetime.hog_timeout),
    Fault("parent_kill9_no_orphans", parent.parent_kill9_no_orphans),
    Fault("ctrl_c", parent.ctrl_c),
    Fault("lazy_input", streams.lazy_input),
    Fault("generator_raises", streams.generator_raises),
    Fault("nested_pool", lifetime.nested_pool),
    Fault("stdout_1MiB", parent.stdout_1_mib),
    Fault("closes_fds", lifetime.closes_fds),
    Fault("churn_50_pools", lifetime.churn_50_pools, limit=120.0),
    Fault("threads_then_pool", lifetime.threads_then_pool, limit=60.0),
    Fault("callback_raises", lifetime.callback_raises),
    Fault("init_dies", lifetime.init_dies),
    Fault("init_raises", lifetime.init_raises),
    Fault("big_3GiB_argument", travel.big_3_gib_argument, limit=50.0),
)
NAMES = tuple(fault.name for fault in FAULTS)
