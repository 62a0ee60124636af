"""Log records of workers and processes reach the handlers of this process."""

from __future__ import annotations

import logging
import pickle
import traceback


def hand_to_loggers(data: bytes) -> None:
    """In the crank's thread: a packed record goes to the logger that it was made by."""
    try:
        record = logging.makeLogRecord(pickle.loads(data))
        target = logging.getLogger(record.name)
        if target.isEnabledFor(record.levelno):
            target.handle(record)
    except BaseException:  # of a handler of the user's: this thread must live
        if logging.raiseExceptions:
            traceback.print_exc()
