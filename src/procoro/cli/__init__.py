"""The command `procoro`. Exit status 0: all is well; 1: something failed; 2: wrong usage.

Workers import `procoro.cli.answer`, and with it this file: what only the parent needs is imported in `main`.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process and leave with its exit status."""
    import sys

    from procoro import kernel
    from procoro.cli.app import app

    kernel.occupy_standard()
    if sys.stderr is None:  # it was closed: what is said there is said to nobody
        sys.stderr = open(2, "w", closefd=False)
    app(prog_name="procoro")
