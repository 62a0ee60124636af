"""`procoro map`: a function over inputs, one row of JSON for each."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from functools import partial

    from procoro import Pool
    from procoro.cli.interrupts import Interrupts
    from procoro.cli.order import Order
    from procoro.cli.output import RowFile
    from procoro.cli.run import Run


@click.command("map", short_help="Run a function over inputs, one row of JSON for each.")
@click.argument("function", metavar="FUNCTION")
@click.argument("inputs", metavar="[INPUTS]", required=False)
@click.option("--out", "-o", metavar="OUT.jsonl", default="-", help="Where rows go; default: standard output.")
@click.option("--glob", "pattern", metavar="PATTERN", help="Inputs are the paths of the matching files; quote it.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["lines", "jsonl", "csv"]),
    help="What INPUTS holds; default: by its ending, else lines.",
)
@click.option("--workers", metavar="N", type=click.IntRange(min=1), help="Processes; default: the usable cores.")
@click.option(
    "--model",
    type=click.Choice(["serial", "threads", "greenlets", "asyncio"]),
    help="How a worker runs calls; default: one at a time, `async def` ones by asyncio.",
)
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(min=1),
    help="Calls that a worker runs at once; default: 32 or 100.",
)
@click.option("--timeout", metavar="SECONDS", type=float, help="Longest time for one call.")
@click.option(
    "--retries", metavar="N", type=click.IntRange(min=0), default=0, help="Further attempts at a failed call."
)
@click.option("--memory-limit", metavar="SIZE", help="Most memory for one worker: bytes, or like '2 GiB'.")
@click.option("--unordered", is_flag=True, help="Write each row as soon as it is known.")
@click.option("--errors", metavar="FILE", help="Where error rows go; default: with the others, in OUT.")
@click.option("--max-failures", metavar="N", type=click.IntRange(min=0), help="Stop when more than N inputs failed.")
@click.option("--quiet", is_flag=True, help="No progress, only what is wrong.")
def map_command(**given: Any) -> None:
    """Call FUNCTION with each of INPUTS in worker processes; write what it returns as JSON, a line for each.

    FUNCTION is module:name or path/to/file.py:name, plain or `async def`; it takes one argument.

    INPUTS is a UTF-8 file: .jsonl or .ndjson (the value in each line is the argument), .csv (a dict of str
    for each record under the header), anything else (the text of each line); or - for standard input, read as
    it comes. Blank lines count only among plain lines.

    OUT is overwritten. It has the rows in the order of the inputs unless --unordered is given, each a tenth
    of a second after it is known. An input that cannot be read, a call that fails, a value that is not JSON
    (NaN and the infinities are not either) becomes an error row: {"input": ..., "number": from 0, "line": in
    INPUTS, "error": {"type": ..., "message": ..., "traceback": ...}}.

    Ctrl-C or SIGTERM starts no more inputs, finishes the calls under way, writes them and says how many are
    left; the second one stops at once. While rows go to standard output, prints of FUNCTION go to standard
    error.

    \b
    Exit status
      0  every input has its value
      1  some failed (they have error rows), or the run was stopped, or rows could not be written
      2  the command line cannot be carried out; nothing was written

    \b
    Examples
      procoro map shop.prices:parse pages.jsonl -o prices.jsonl --errors failed.jsonl --timeout 10
      procoro map stats.py:count --glob 'src/**/*.py' -o counts.jsonl
      tail -f urls.txt | procoro map links.py:check - --workers 4 --model greenlets --concurrency 200
    """
    from procoro.cli.order import Order

    sys.exit(_carry_out(Order(**given)))


def _carry_out(order: Order) -> int:
    """Do it all; return the exit status."""
    from procoro.cli.output import OutputError
    from procoro.watch.progress import say

    try:
        with ExitStack() as stack:
            with _as_usage_errors():
                pool, function, run = _prepare(order, stack)
            problem = _follow(order, pool, function, run)
    except OutputError as error:  # of closing the files
        problem = str(error)
    if problem is None:
        return 0
    say(f"procoro map: {problem}")  # said when the workers are gone and the files are whole
    return 1


@contextmanager
def _as_usage_errors() -> Iterator[None]:
    from procoro.cli.function import FunctionError
    from procoro.cli.inputs import InputError
    from procoro.cli.order import OrderError
    from procoro.cli.output import OutputError
    from procoro.cli.standard import StreamClosed

    try:
        yield
    except (FunctionError, InputError, OrderError, OutputError, StreamClosed) as error:
        raise click.UsageError(str(error)) from error


def _prepare(order: Order, stack: ExitStack) -> tuple[Pool, partial[Any], Run]:
    """Check all that can be checked, start the pool, and only then open OUT, which empties it."""
    from procoro.cli.answer import answering
    from procoro.cli.function import load
    from procoro.cli.interrupts import Interrupts
    from procoro.cli.run import Run
    from procoro.cli.standard import keep_input, keep_output
    from procoro.watch.progress import progress_for

    order.check()
    source = order.source(stack.enter_context(keep_input()) if order.reads_standard_input else None)
    standard_output = stack.enter_context(keep_output()) if order.writes_standard_output else None
    loaded = load(order.function)
    function = answering(loaded)
    order.check_function(function, getattr(sys.modules[loaded.module], "__file__", None))
    interrupts = stack.enter_context(Interrupts())
    pool = stack.enter_context(_pool(order))
    rows = stack.enter_context(_rows(order.out, standard_output, interrupts))
    failures = rows
    if order.errors is not None:
        failures = stack.enter_context(_rows(order.errors, standard_output, interrupts))
    for path, file in ((order.out, rows), (order.errors, failures)):
        if path not in (None, "-"):  # else it is the caller's
            file.empty()
    progress = progress_for(order.quiet, standard_output is not None and os.isatty(standard_output))
    return pool, function, Run(source, rows, failures, progress, interrupts, order.max_failures)


def _pool(order: Order) -> Pool:
    from procoro import Pool
    from procoro.cli.interrupts import leave_the_end_to_the_parent

    try:
        return Pool(
            order.workers,
            model=order.model,
            concurrency=order.concurrency,
            timeout=order.timeout,
            retries=order.retries,
            memory_limit=order.memory,
            initializer=leave_the_end_to_the_parent,
        )
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def _rows(path: str, standard_output: int | None, interrupts: Interrupts) -> RowFile:
    from procoro.cli.output import RowFile

    def stopped() -> bool:
        return interrupts.stop

    if path == "-":
        assert standard_output is not None
        return RowFile("standard output", standard_output, stopped)
    return RowFile.create(path, stopped, lambda: interrupts.drain)  # nothing has begun that could be drained


def _follow(order: Order, pool: Pool, function: partial[Any], run: Run) -> str | None:
    """Run it to its end; return what is wrong with that end, if anything."""
    from procoro.cli.inputs import InputError
    from procoro.cli.output import OutputError
    from procoro.cli.run import TooManyFailures
    from procoro.errors import ProcoroError

    try:
        map_over = pool.imap_unordered if order.unordered else pool.imap
        run.follow(map_over(function, run.jobs()))
    except TooManyFailures as error:
        return f"stopped: {error}; {run.how_far()}"
    except OutputError as error:
        return str(error)
    except (InputError, ProcoroError) as error:
        return f"{error}; {run.how_far()}"
    finally:
        run.close()
    return _verdict(order, run)


def _verdict(order: Order, run: Run) -> str | None:
    if not run.is_complete:
        return f"{'interrupted' if run.interrupted else 'ended early'}: {run.how_far()}"
    if run.failed:
        where = "OUT" if order.errors is None else order.errors
        return f"{run.failed:,} of {run.tally().answered:,} inputs failed: their error rows are in {where}"
    return None
