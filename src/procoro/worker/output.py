"""What a worker says: its standard streams are the caller's, its log records go to the caller's handlers."""

from __future__ import annotations

import io
import os
import pickle
import sys
from typing import Any

from procoro.wire import channel


class LineWriter(io.TextIOWrapper):
    """A text stream that writes whole lines, and knows whether there is anything to flush."""

    dirty = False

    def write(self, text: str, /) -> int:
        """As in TextIOWrapper."""
        self.dirty = True
        return super().write(text)


def open_streams(stdout: int, stderr: int) -> tuple[LineWriter, LineWriter]:
    """Make standard output and error the caller's, as they are now."""
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    encoding = os.environ.get("PYTHONIOENCODING", "").partition(":")[0] or "utf-8"
    out = LineWriter(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding, "surrogateescape", "\n", True)
    err = LineWriter(io.BufferedWriter(io.FileIO(2, "w", closefd=False)), encoding, "backslashreplace", "\n", True)
    sys.stdout = sys.__stdout__ = out  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = err  # type: ignore[misc]
    return out, err


def forward_logging(end: Any, levels: dict[str, int] | None) -> None:
    """Let every record that the caller's levels let through reach the caller's handlers."""
    import logging

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                record.msg, record.args = record.getMessage(), None
                if record.exc_info:
                    record.exc_text = logging.Formatter().formatException(record.exc_info)
                    record.exc_info = None
                data = _pickled(record)
                channel.send(end, [channel.LOG, data])
            except OSError:
                pass  # the caller is gone: so are we, soon
            except Exception:
                self.handleError(record)

    root = logging.getLogger()
    root.handlers[:] = [Forward()]
    for name, level in (levels or {}).items():
        logging.getLogger(name or None).setLevel(level)


def _pickled(record: Any) -> bytes:
    try:
        data = pickle.dumps(record.__dict__)
    except Exception:
        plain = {k: v if isinstance(v, (str, int, float, type(None))) else repr(v) for k, v in record.__dict__.items()}
        data = pickle.dumps(plain)
    if len(data) > channel.INLINE:
        record.msg = record.msg[: channel.INLINE // 8] + " [cut by procoro]"
        data = pickle.dumps({**{k: None for k in record.__dict__}, "name": record.name, "levelno": record.levelno,
                             "levelname": record.levelname, "msg": record.msg})
    return data
