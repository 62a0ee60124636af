"""`--model` and `--concurrency` of `procoro map`."""

import subprocess
from collections.abc import Callable

import pytest

from tests.cli.conftest import function

Map = Callable[..., "subprocess.CompletedProcess[str]"]
SIX = "".join(f"{number}\n" for number in range(6))


@pytest.mark.parametrize("model", ["threads", "greenlets"])
def test_one_worker_runs_many_calls_at_once(procoro_map: Map, model: str) -> None:
    done = procoro_map(
        function("meet"), "-", "--format", "jsonl", "--workers", "1", "--model", model, "--concurrency", "6", given=SIX
    )
    assert (done.returncode, done.stdout) == (0, SIX)


@pytest.mark.parametrize("options", [(), ("--model", "asyncio"), ("--concurrency", "6")])
def test_async_functions_run_at_once_by_themselves(procoro_map: Map, options: tuple[str, ...]) -> None:
    done = procoro_map(function("meet_later"), "-", "--format", "jsonl", "--workers", "1", *options, given=SIX)
    assert (done.returncode, done.stdout) == (0, SIX)


def test_a_time_out_ends_one_of_the_calls_of_a_worker(procoro_map: Map) -> None:
    done = procoro_map(
        function("meet_later"),
        "-",
        "--format",
        "jsonl",
        "--workers",
        "1",
        "--timeout",
        "1",
        given=SIX.replace("5", "7"),
    )  # the one who would be waited for never comes
    assert done.returncode == 1
    assert done.stdout.count("CallTimeout") == 6


@pytest.mark.parametrize(
    "options, words",
    [
        (("--model", "fibers"), "'fibers' is not one of 'serial', 'threads', 'greenlets', 'asyncio'"),
        (("--concurrency", "0"), "0 is not in the range x>=1"),
        (("--concurrency", "10001"), "concurrency must be <= 10,000 calls in a worker, got 10,001: use more workers"),
        (("--model", "serial", "--concurrency", "2"), "a serial worker runs one call at a time, got concurrency=2"),
        (("--model", "greenlets"), "FUNCTION is an `async def`, which greenlets cannot run: leave --model out"),
    ],
)
def test_what_cannot_be_is_refused_in_words(procoro_map: Map, options: tuple[str, ...], words: str) -> None:
    done = procoro_map(function("double_later"), "-", *options, given=SIX)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""
