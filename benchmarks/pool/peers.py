"""Who takes part. To add a system: its adapter, and a row here."""

from benchmarks.compare.catalogue import System


def _system(name: str, path: str, imports: str) -> System:
    return System(name, f"benchmarks.pool.systems.{path}", imports)


PROCORO = _system("procoro", "procoro_pool:Procoro", "import procoro; procoro.Pool")
MP = _system("mp.Pool", "standard_pool:StandardPool", "import multiprocessing; multiprocessing.Pool")
CHUNKED = _system("mp.Pool chunk 256", "standard_pool:Chunked", MP.imports)
PPE = _system("PPE", "executors:StandardExecutor", "from concurrent.futures import ProcessPoolExecutor")
LOKY = _system("loky", "executors:Loky", "import loky")
JOBLIB = _system("joblib", "joblib_parallel:Joblib", "import joblib")
MPIRE = _system("mpire", "mpire_pool:Mpire", "import mpire")
UNCHUNKED = _system("mpire chunk 1", "mpire_pool:Unchunked", "import mpire")
PEBBLE = _system("pebble", "pebble_pool:Pebble", "import pebble")
TRIO = _system("trio-parallel", "trio_parallel_calls:TrioParallel", "import trio, trio_parallel")
AIO = _system("aiomultiprocess", "aiomultiprocess_pool:Aiomultiprocess", "import aiomultiprocess, uvloop")
RAY = _system("Ray", "ray_tasks:Ray", "import ray")
DASK = _system("Dask", "dask_client:Dask", "import distributed")
BARE = System("no pool", "benchmarks.pool.systems.bare_processes:BareProcesses")
MEMCPY = System("memcpy", "benchmarks.pool.systems.memcpy:Memcpy", "import numpy")

LOCAL = (PROCORO, MP, PPE, LOKY, JOBLIB, MPIRE, PEBBLE)  # which have all that is asked for, joblib's submit aside
STREAMS = (PROCORO, MP, CHUNKED, PPE, LOKY, JOBLIB, MPIRE, PEBBLE, AIO, RAY, DASK)
UNORDERED = (PROCORO, MP, CHUNKED, PPE, LOKY, JOBLIB, MPIRE, PEBBLE, RAY, DASK)
MAPS = (*LOCAL, TRIO, AIO, RAY, DASK)
SUBMITS = tuple(one for one in MAPS if one is not JOBLIB)
CLOSED = (PROCORO, MP, PPE, LOKY, MPIRE, PEBBLE, AIO, RAY, DASK)
LEFT = (PROCORO, MP, PPE, LOKY, MPIRE, PEBBLE, AIO)

LOCAL_PEERS = tuple(one.name for one in LOCAL if one is not PROCORO)
