"""The processes, and how they are told what to do. Each imports its library before anything else is."""

import importlib
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

Run = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]  # a function and its inputs: all its values


class Processes:
    """`library`: a module beside this one, whose `runner(places, *options)` makes a Run."""

    def __init__(self, library: str, processes: int, places: int, *options: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._ends = []
        self._processes = []
        for _ in range(processes):
            here, there = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(there, library, places, *options))
            process.start()
            there.close()
            self._ends.append(here)
            self._processes.append(process)

    def run(self, call: Callable[[Any], Any], inputs: Sequence[Any]) -> list[Any]:
        """Each process gets its share."""
        share = -(-len(inputs) // len(self._ends))
        for number, end in enumerate(self._ends):
            end.send((call, inputs[number * share : (number + 1) * share]))
        return [value for end in self._ends for value in end.recv()]

    def close(self) -> None:
        for end in self._ends:
            end.send(None)
        for process in self._processes:
            process.join()


def _serve(end: Any, library: str, places: int, *options: Any) -> None:
    run: Run = importlib.import_module(f"benchmarks.models.hand.{library}").runner(places, *options)
    while (task := end.recv()) is not None:
        end.send(run(*task))
