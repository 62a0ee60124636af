"""gevent, as its manual says: patched first."""

from gevent import monkey

monkey.patch_all()

from gevent.pool import Pool  # noqa: E402

from benchmarks.models.hand.processes import Run  # noqa: E402


def runner(places: int) -> Run:
    run: Run = Pool(places).map
    return run
