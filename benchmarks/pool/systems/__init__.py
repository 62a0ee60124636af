"""The pools that are compared: one small adapter a system. To add one, write its file and name it here."""

from benchmarks.pool.systems.procoro_pool import Procoro
from benchmarks.pool.systems.standard_executor import StandardExecutor
from benchmarks.pool.systems.standard_pool import StandardPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from benchmarks.pool.systems.protocol import System

SYSTEMS: "tuple[System, ...]" = (
    Procoro(),
    StandardPool(),
    StandardPool(chunksize=256),
    StandardExecutor(),
)


def named(name: str) -> "System":
    return next(system for system in SYSTEMS if system.name == name)
