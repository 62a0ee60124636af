"""Promises 2 and 4 where many calls run in one worker: a call that is ended harms no neighbour, if it lets itself be
ended; if not, its worker is replaced, and the neighbours are told whose fault it was."""

import importlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from procoro import Pool
from procoro.errors import CallKilled, CallTimeout, Collateral, WorkerDied, WorkersKeepDying, failed_call
from tests.promises import calls, crowds, moods
from tests.promises.crowds import MODELS, fitting
from tests.promises.looks import PATIENCE, gone, in_a_loop, wait_until
from tests.promises.meetings import Meeting

every_model = pytest.mark.parametrize("model", MODELS)
obedient = pytest.mark.parametrize("model", ["greenlets", "asyncio", None])  # a thread cannot be ended

STUBBORN = [
    ("greenlets", moods.linger),
    ("greenlets", moods.spin),
    ("greenlets", moods.turn),
    ("asyncio", moods.linger),
    ("asyncio", moods.spin),
    ("asyncio", moods.turn),
    (None, moods.turn),
    ("threads", crowds.meet),
    ("threads", moods.turn),
]
every_stubborn = pytest.mark.parametrize("model, function", STUBBORN)


class Scene:
    """A meeting of neighbours in one worker, and where they write down how they ended."""

    def __init__(self, folder: Path) -> None:
        self.meeting = Meeting(folder / "meeting")
        self.notes = Meeting(folder / "notes")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# ---- ended by a time-out


@obedient
def test_a_timeout_ends_its_call_alone(model: str | None, scene: Scene) -> None:
    """Its `finally` runs, its neighbours and its worker go on."""
    stay, meet = fitting(model, moods.stay), fitting(model, crowds.meet)
    with Pool(1, model=model) as pool:
        neighbours = [pool.submit(meet, scene.meeting, i) for i in range(20)]
        (pid, *_) = scene.meeting.reached(20)
        forever = Meeting(Path(scene.meeting.folder) / "forever")
        stream = pool.imap(fitting(model, moods.stay_with), [(forever, scene.notes, i) for i in range(5)], timeout=0.4)
        for i in range(5):
            with pytest.raises(CallTimeout, match=r"ran longer than its timeout of 0.4 s") as caught:
                stream.next(PATIENCE)
            call = failed_call(caught.value)
            assert call is not None and call.number == i and isinstance(caught.value, TimeoutError)
        name = "GreenletExit" if model == "greenlets" else "CancelledError"
        assert sorted(scene.notes.who()) == sorted(f"{i} {how}" for i in range(5) for how in (name, "finally"))
        scene.meeting.end()
        assert [result.get(PATIENCE) for result in neighbours] == [*range(20)]
        assert pool.apply(fitting(model, crowds.pid)) == pid
    assert callable(stay)


@obedient
def test_time_counts_from_the_beginning_of_a_call(model: str | None) -> None:
    """Not from when it was handed in, nor from that of its neighbours."""
    with Pool(1, model=model, concurrency=2, timeout=1.5) as pool:
        results = [pool.submit(fitting(model, crowds.nap), 0.5) for _ in range(12)]
        assert [result.get(PATIENCE) for result in results] == [0.5] * 12


@every_stubborn
def test_who_does_not_end_at_a_timeout_is_ended_with_its_worker(
    model: str | None, function: Callable[..., Any], scene: Scene
) -> None:
    with Pool(1, model=model, concurrency=6) as pool:
        neighbours = [pool.submit(fitting(model, crowds.meet), scene.meeting, i) for i in range(5)]
        (pid, *_) = scene.meeting.reached(5)
        forever = Meeting(Path(scene.meeting.folder) / "forever")
        stream = pool.imap(fitting(model, function), [forever], timeout=0.4)
        waiting = [pool.submit(fitting(model, crowds.add), i) for i in range(20)]
        with pytest.raises(CallTimeout):
            stream.next(PATIENCE)
        for i, neighbour in enumerate(neighbours):
            error = neighbour.exception(PATIENCE)
            assert type(error) is Collateral and isinstance(error, WorkerDied) and error.pid == pid
            assert f"meet({scene.meeting!r}"[:5] in str(error) and f"{i})" in str(error)
            assert str(error).endswith(f"worker {pid} was ended because of another call that ran in it")
        assert [result.get(PATIENCE) for result in waiting] == [*range(20)]
        assert gone(pid)


@every_stubborn
def test_with_retries_its_neighbours_have_their_values(
    model: str | None, function: Callable[..., Any], scene: Scene
) -> None:
    with Pool(1, model=model, concurrency=6, retries=1) as pool:
        neighbours = [pool.submit(fitting(model, crowds.meet), scene.meeting, i) for i in range(5)]
        scene.meeting.reached(5)
        forever = Meeting(Path(scene.meeting.folder) / "forever")
        stream = pool.imap(fitting(model, function), [forever], timeout=0.4, retries=0)
        with pytest.raises(CallTimeout):
            stream.next(PATIENCE)
        scene.meeting.end()
        assert [result.get(PATIENCE) for result in neighbours] == [*range(5)]
    names = scene.meeting.who()
    assert all(1 <= names.count(str(i)) <= 2 for i in range(5))


# ---- ended by kill()


@obedient
def test_kill_ends_its_call_alone(model: str | None, scene: Scene) -> None:
    with Pool(1, model=model) as pool:
        function = fitting(model, moods.stay)
        results = [pool.submit(function, scene.meeting, scene.notes, i) for i in range(20)]
        (pid, *_) = scene.meeting.reached(20)
        assert all(result.kill() for result in results[::2])
        for result in results[::2]:
            with pytest.raises(CallKilled, match=r"stay\(.*\) .*was ended by kill\(\)"):
                result.get(PATIENCE)
            assert not result.kill()
        assert len(scene.notes.who()) == 20, "each of ten wrote down what it got, and came by its `finally`"
        scene.meeting.end()
        assert [result.get(PATIENCE) for result in results[1::2]] == [*range(1, 20, 2)]
        assert pool.apply(fitting(model, crowds.pid)) == pid


@every_stubborn
def test_kill_of_who_does_not_end(model: str | None, function: Callable[..., Any], scene: Scene) -> None:
    with Pool(1, model=model, concurrency=6) as pool:
        neighbours = [pool.submit(fitting(model, crowds.meet), scene.meeting, i) for i in range(5)]
        (pid, *_) = scene.meeting.reached(5)
        forever = Meeting(Path(scene.meeting.folder) / "forever")
        running = pool.submit(fitting(model, function), forever)
        if function in (moods.spin, moods.turn):
            in_a_loop(pid)
        else:
            forever.reached(1)
        waiting = [pool.submit(fitting(model, crowds.add), i) for i in range(20)]
        assert running.kill()
        assert isinstance(running.exception(PATIENCE), CallKilled)
        for neighbour in neighbours:
            assert type(neighbour.exception(PATIENCE)) is Collateral
        assert [result.get(PATIENCE) for result in waiting] == [*range(20)]
        assert gone(pid)


@every_model
def test_kill_of_a_call_that_is_ending_lets_its_outcome_stand(model: str) -> None:
    """At random moments: each call is killed, or has its value."""
    with Pool(2, model=model, retries=2) as pool:
        for _ in range(10):
            results = [pool.submit(fitting(model, crowds.nap), 0.004) for _ in range(40)]
            killed = [result.kill() for result in results[::4]]
            for i, result in enumerate(results):
                if i % 4 == 0 and killed[i // 4]:
                    result.wait(PATIENCE)  # it was asked to end, or taken back; or it had just returned
                    assert result.cancelled() or isinstance(result.exception(0), (CallKilled, type(None)))
                else:
                    assert result.get(PATIENCE) == 0.004


@obedient
def test_a_call_that_returns_all_the_same(model: str | None, scene: Scene) -> None:
    """It was asked to end, and ends with a value of its own, or an error of its own: that is what counts."""
    with Pool(1, model=model) as pool:
        for function, what in ((moods.returns_all_the_same, "value"), (moods.raises_all_the_same, ValueError)):
            forever = Meeting(Path(scene.meeting.folder) / f"{what}")
            result = pool.submit(fitting(model, function), forever)
            forever.reached(1)
            result.kill()
            if what == "value":
                assert result.get(PATIENCE) == "value"
            else:
                assert isinstance(result.exception(PATIENCE), ValueError)


# ---- cancelled


@every_model
def test_cancel_of_waiting_calls(model: str, scene: Scene) -> None:
    with Pool(1, model=model, concurrency=3) as pool:
        function = fitting(model, moods.stay)
        running = [pool.submit(function, scene.meeting, scene.notes, i) for i in range(3)]
        (pid, *_) = scene.meeting.reached(3)
        waiting = [pool.submit(function, scene.meeting, scene.notes, i) for i in range(3, 23)]
        assert [result.cancel() for result in running] == [False] * 3
        assert [result.cancel() for result in waiting[::2]] == [True] * 10
        for result in waiting[::2]:
            assert result.cancelled()
            with pytest.raises(CancelledError):
                result.get(0)
        scene.meeting.end()
        assert [result.get(PATIENCE) for result in running + waiting[1::2]] == [0, 1, 2, *range(4, 23, 2)]
        assert sorted(map(int, scene.meeting.who())) == [0, 1, 2, *range(4, 23, 2)], "what was cancelled was not run"
        assert pool.apply(fitting(model, crowds.pid)) == pid


@every_model
def test_cancel_at_random_moments_loses_nothing(model: str, scene: Scene) -> None:
    with Pool(2, model=model) as pool:
        function = fitting(model, moods.signs)
        results = [pool.submit(function, scene.notes, i) for i in range(1000)]
        cancelled = {i for i in range(0, 1000, 3) if results[i].cancel()}
        for i, result in enumerate(results):
            if i in cancelled:
                assert result.cancelled()
            else:
                assert result.get(PATIENCE) == i
    assert sorted(map(int, scene.notes.who())) == sorted({*range(1000)} - cancelled), "each once, or not at all"


@obedient
def test_a_read_from_a_socket_is_ended(model: str | None, scene: Scene) -> None:
    """By a time-out, and by kill(): the socket is closed on the way out."""
    with Pool(1, model=model) as pool:
        pid = pool.apply(fitting(model, crowds.pid))
        stream = pool.imap(fitting(model, moods.reads_for_ever), [scene.notes], timeout=0.3)
        with pytest.raises(CallTimeout):
            stream.next(PATIENCE)
        result = pool.submit(fitting(model, moods.reads_for_ever), scene.notes)
        wait_until(lambda: scene.notes.who().count("reads") == 2, "it reads")
        assert result.kill()
        assert isinstance(result.exception(PATIENCE), CallKilled)
        assert scene.notes.who().count("closed") == 2
        assert pool.apply(fitting(model, crowds.pid)) == pid


LOADS = """
import os, pathlib, time

if os.getpid() != {pid}:
    pathlib.Path("{folder}", "loading").touch()
    while not pathlib.Path("{folder}", "go").exists():
        time.sleep(0.01)

def one(x): return x
async def aone(x): return x
"""


@obedient
def test_a_call_is_killed_while_its_function_is_loaded(model: str | None, tmp_path: Path, monkeypatch: Any) -> None:
    """It ends as it begins, and its neighbour goes on."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"loads_slowly_{model}"
    (tmp_path / f"{name}.py").write_text(LOADS.format(pid=os.getpid(), folder=tmp_path))
    module, meeting = importlib.import_module(name), Meeting(tmp_path / "meeting")
    with Pool(1, model=model, concurrency=10) as pool:
        neighbour = pool.submit(fitting(model, crowds.meet), meeting, "value")
        meeting.reached(1)
        result = pool.submit(fitting(model, module.one), 1)
        wait_until((tmp_path / "loading").exists, "its module is imported")
        assert result.kill()
        (tmp_path / "go").touch()
        with pytest.raises(CallKilled):
            result.get(PATIENCE)
        meeting.end()
        assert neighbour.get(PATIENCE) == "value"


# ---- a model that cannot be loaded


def _hide_the_model() -> None:
    sys.modules["procoro.worker.models.asyncio"] = None  # type: ignore[assignment]


def test_calls_that_no_worker_can_begin_are_given_up() -> None:
    """As where a file of the user's stands in the way of a module that asyncio needs. Others may run."""
    with Pool(1, _hide_the_model) as pool:
        with pytest.raises(WorkersKeepDying, match="double_async was given up"):
            pool.submit(calls.double_async, 1).get(PATIENCE)
        assert pool.apply(abs, (-1,)) == 1
