"""What the pool of a server calls in its worker. Each imports only what it runs by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from procoro.server.job import Job


async def serve_tasks(job: Job) -> None:
    """For an `async def` handler."""
    from procoro.server import tasks

    job.settings.check_again()
    await tasks.serve(job)


def serve_greenlets(job: Job) -> None:
    """For a plain handler."""
    from procoro.server import greenlets

    job.settings.check_again()
    greenlets.serve(job)
