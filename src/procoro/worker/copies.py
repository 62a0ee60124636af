"""A copy of a worker, which a call has forked: it has no part in the pool, and ends as any program would."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def leave(error: BaseException | None) -> NoReturn:
    """End it, now that the call has returned in it, or raised this."""
    status = 0 if error is None else 1
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            status = (error.code or 0) & 0xFF
        else:
            print(error.code, file=sys.stderr)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # what cannot be written is nobody's fault here
    os._exit(status)
