"""Many at once, few descriptors, short lives, and pools within calls."""

import threading
from collections import Counter
from pathlib import Path

import pytest

from procoro import Pool
from procoro.errors import WorkerDied
from tests.promises import crowds, moods
from tests.promises.conftest import Script
from tests.promises.crowds import MODELS, fitting
from tests.promises.looks import PATIENCE, kill, outcomes
from tests.promises.meetings import Meeting

every_model = pytest.mark.parametrize("model", MODELS)


@pytest.mark.parametrize(
    "model, count", [("asyncio", 10_000), (None, 10_000), ("greenlets", 10_000), ("threads", 1000)]
)
def test_the_most_at_once(model: str | None, count: int) -> None:
    """In one worker, all of them inside their calls at the same time."""
    with Pool(1, model=model, concurrency=count) as pool:
        together = pool.map(fitting(model, crowds.waits_for_all), [count] * count)
        assert together == [count] * count
        assert pool.apply(fitting(model, crowds.add), (1, 2)) == 3


@every_model
def test_thousands_in_two_workers_and_one_of_these_dies(model: str, tmp_path: Path) -> None:
    """Its calls are suspects, each by its own name; those of the other one are not hit."""
    count = 400 if model == "threads" else 2000
    meeting = Meeting(tmp_path / "meeting")
    with Pool(2, model=model, concurrency=count) as pool:
        results = [pool.submit(fitting(model, crowds.gather), meeting, i) for i in range(2 * count)]
        pids = Counter(meeting.reached(2 * count))
        assert sorted(pids.values()) == [count] * 2
        lost = min(pids)
        kill(lost)
        meeting.end()
        for pid, who in meeting.names():
            result = results[int(who)]
            if pid == lost:
                error = result.exception(PATIENCE)
                assert isinstance(error, WorkerDied) and (error.pid, error.suspects) == (pid, count)
                assert f", {who})" in str(error)
            else:
                assert result.get(PATIENCE) == int(who)


@every_model
@pytest.mark.parametrize("most, count", [(1, 12), (7, 60)])
def test_maxtasksperchild(model: str, most: int, count: int) -> None:
    with Pool(2, maxtasksperchild=most, model=model, concurrency=5) as pool:
        found = pool.map(fitting(model, crowds.number_and_pid), range(count))
        assert [number for number, _ in found] == [*range(count)]
        counts = Counter(pid for _, pid in found)
        assert max(counts.values()) <= most
        assert sorted(pool.imap_unordered(fitting(model, crowds.add), range(8))) == [*range(8)]


@every_model
def test_few_descriptors(model: str, script: Script) -> None:
    """What finds none fails by that name; nothing waits for ever."""
    printed = script(
        f"""
        import resource
        from procoro import Pool
        from tests.promises import crowds, values
        from tests.promises.crowds import fitting

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        model = {model!r}
        with Pool(2, model=model, concurrency=200) as pool:
            print(pool.map(fitting(model, crowds.add), range(1000)) == list(range(1000)))
            results = [pool.submit(fitting(model, values.bytes_of), (x, 200_000)) for x in range(100)]
            kinds = set()
            for result in results:
                error = result.exception(20)
                kinds.add("value" if error is None else type(error).__name__)
            print(kinds <= {{"value", "OSError", "WorkerDied", "ResultNotUnpicklable"}}, "value" in kinds)
            del results, result
            print(pool.map(fitting(model, crowds.add), range(100)) == list(range(100)))
        """
    )
    assert printed == "True\nTrue True\nTrue\n"


@every_model
def test_sockets_beyond_the_limit_fail_their_own_calls(model: str, script: Script) -> None:
    printed = script(
        f"""
        import resource
        from procoro import Pool
        from tests.promises import moods
        from tests.promises.crowds import fitting

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        model = {model!r}
        with Pool(1, model=model, concurrency=100) as pool:
            results = [pool.submit(fitting(model, moods.holds_a_socket), 0.3) for _ in range(100)]
            errors = [result.exception(20) for result in results]
            print({{type(error).__name__ for error in errors}} == {{"OSError", "NoneType"}})
            print(pool.apply(fitting(model, moods.holds_a_socket), (0.0,)))
        """
    )
    assert printed == "True\n0.0\n"


@every_model
def test_an_initializer_that_dies_or_fails(model: str, tmp_path: Path) -> None:
    with Pool(1, moods.initializer_that_dies_once, (str(tmp_path / "notes"),), model=model) as pool:
        assert pool.map(fitting(model, crowds.add), range(20)) == [*range(20)]
    with Pool(1, moods.raise_it, (ValueError("mine"),), model=model) as pool:
        found = outcomes(pool.imap(fitting(model, crowds.add), range(3)))
        assert all("the initializer raised ValueError: mine" in str(error) for error in found) and found


@pytest.mark.parametrize("model", ["threads", "greenlets", "asyncio", None])
def test_pools_within_calls(model: str | None) -> None:
    """Several calls make pools at once, of every model."""
    inner = ["serial", *MODELS, None]
    with Pool(1, model=model) as pool:
        function = fitting(model, crowds.uses_a_pool)
        assert pool.starmap(function, [*zip(inner, range(5), strict=True)]) == [[i, i + 1, i + 2] for i in range(5)]


def test_many_threads_hand_in_calls(tmp_path: Path) -> None:
    found: list[bool] = []
    with Pool(2, model="asyncio") as pool:

        def work(start: int) -> None:
            found.append(pool.map(crowds.aadd, range(start, start + 200)) == [*range(start, start + 200)])
            found.append([pool.submit(crowds.aadd, x).get(PATIENCE) for x in range(20)] == [*range(20)])

        threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert found == [True] * 20
