"""The command `procoro`. Exit status 0: all is well; 1: something failed; 2: wrong usage.

Workers import `procoro.cli.answer`, and with it this file: what only the parent needs is imported in `main`.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process and leave with its exit status."""
    from procoro.cli.app import app

    app(prog_name="procoro")
