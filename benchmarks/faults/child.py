"""One cell in one fresh process: runs the fault named in argv, and writes what came of it into a file."""

import os
import resource
import signal
import sys
import traceback
from pathlib import Path

from benchmarks.faults.catalogue import FAULTS
from benchmarks.faults.expect import Wrong
from benchmarks.faults.systems import NotOffered, named


def main() -> None:
    fault, system, answer = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored, here and in all below
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # workers die here on purpose
    verdict = judged(fault, system)
    Path(answer).write_text(verdict)
    os._exit(0)  # leaving the pool was part of the fault; what failed may never end


def judged(fault: str, system: str) -> str:
    run = next(one.run for one in FAULTS if one.name == fault)
    try:
        run(named(system))
    except NotOffered:
        return "n/a"
    except Wrong as wrong:
        return f"WRONG {wrong}"
    except BaseException as error:
        traceback.print_exc()
        return f"ERROR {type(error).__name__}"
    return "ok"
