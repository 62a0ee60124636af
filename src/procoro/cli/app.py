"""The click application: one subcommand a file."""

from __future__ import annotations

import click

from procoro.cli.map import map_command
from procoro.cli.serve import serve_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="procoro")
def app() -> None:
    """Run Python functions on every core; lose no call when something dies."""


app.add_command(map_command)
app.add_command(serve_command)
