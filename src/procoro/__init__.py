"""Processes x coroutines: run functions on every core, and lose no call when something dies."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from procoro.executor import Executor
    from procoro.kernel import cores as cpu_count
    from procoro.pool import Pool
    from procoro.results import MapResult, Result, Stream

__version__ = "0.1.0"
__all__ = ["Executor", "MapResult", "Pool", "Result", "Stream", "cpu_count"]

_HOMES = {
    "Executor": ("procoro.executor", "Executor"),
    "Pool": ("procoro.pool", "Pool"),
    "Result": ("procoro.results", "Result"),
    "MapResult": ("procoro.results", "MapResult"),
    "Stream": ("procoro.results", "Stream"),
    "cpu_count": ("procoro.kernel", "cores"),
}


def __getattr__(name: str) -> object:
    """Public names load when they are first used (PEP 562)."""
    try:
        module, attribute = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'procoro' has no attribute {name!r}") from None
    import importlib

    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
