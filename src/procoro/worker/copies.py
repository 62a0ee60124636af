"""A copy of a worker, which a call has forked: it has no part in the pool, and ends as any program would."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from procoro.worker import output


def leave(error: BaseException | None) -> NoReturn:
    """End it, now that the call has returned in it, or raised this."""
    status = 0
    if isinstance(error, SystemExit):
        status = output.exit_status(error)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    output.write_out()
    os._exit(status)
