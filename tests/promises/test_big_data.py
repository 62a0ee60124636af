"""Arrays and other large things travel right, can be written to, and are given back."""

import gc
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from procoro import Pool
from procoro.errors import NotPicklable, WorkerDied
from procoro.wire.blocks import Parts, Spares, Written
from tests.gate import Gate
from tests.promises import calls
from tests.promises.looks import PATIENCE, outcomes, wait_until

MIB = 1 << 20


def made(n: int, size: int = MIB) -> Any:
    return np.arange(size, dtype=np.int64) + n


def add_in_place(array: Any) -> Any:
    assert array.flags.writeable
    array += 1
    return array


def total(array: Any) -> int:
    return int(array.sum())


def split(array: Any) -> list[Any]:
    return [array[::2].copy(), {"rest": array[1::2]}, "words"]


KEPT: list[Any] = []


def keep(array: Any) -> None:
    KEPT.append(array)


def kept() -> list[int]:
    return [total(array) for array in KEPT]


def keep_in_a_child(array: Any, folder: Path) -> None:
    if os.fork() == 0:
        while not (folder / "go").exists():
            time.sleep(0.01)
        (folder / "said.new").write_text(str(total(array)))
        (folder / "said.new").rename(folder / "said")
        os._exit(0)


def fail_at_first(array: Any, mark: Path) -> int:
    if not mark.exists():
        mark.touch()
        KEPT.append(array)
        raise ValueError
    return total(array)


def blocks_in_sight(array: Any) -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/maps").open() if "procoro-block" in line}


def blocks_held() -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += "procoro-block" in os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # of the listing itself
    return count


def memory_of_blocks() -> int:
    """Bytes of all that is mapped."""
    count = 0
    for line in Path("/proc/self/maps").open():
        if "procoro-block" in line:
            start, end = line.split()[0].split("-")
            count += int(end, 16) - int(start, 16)
    return count


class Counted:
    """Knows how often it was packed."""

    def __init__(self, size: int) -> None:
        self.packed = 0
        self.array = np.zeros(size, np.uint8)

    def __len__(self) -> int:
        return len(self.array)

    def __getstate__(self) -> dict[str, Any]:
        self.packed += 1
        return {"packed": 0, "array": self.array}


def die_with(array: Any) -> Any:
    if array[0] == 3:
        calls.kill_self()
    return array


def test_8_mib_in_and_out() -> None:
    array = made(5)
    assert array.nbytes == 8 * MIB
    with Pool(2) as pool:
        for back in (
            pool.apply(add_in_place, (array,)),
            pool.submit(add_in_place, array).get(PATIENCE),
            pool.map(add_in_place, [array])[0],
            next(pool.imap(add_in_place, iter([array]))),
            pool.starmap(add_in_place, [(array,)])[0],
        ):
            assert np.array_equal(back, array + 1)
            back += 1  # what comes back can be written to
            assert back[0] == 7
    assert np.array_equal(array, made(5)), "the caller's own array is as it was"
    assert back[1] == 8, "results outlive the pool"


def test_what_the_caller_changes_afterwards_does_not_travel() -> None:
    array = made(0)
    expected = total(array)
    with Pool(1) as pool:
        results = [pool.submit(total, array) for _ in range(5)]
        array[:] = 0
        assert [result.get(PATIENCE) for result in results] == [expected] * 5


def test_many_arrays_through_a_stream() -> None:
    with Pool(2) as pool:
        for n, back in enumerate(pool.imap(add_in_place, (made(n, 50_000) for n in range(200)))):
            assert np.array_equal(back, made(n + 1, 50_000))


def test_what_a_call_has_kept_stays_as_it_was() -> None:
    """Blocks are written again, but not those that somebody looks into."""
    with Pool(1) as pool:
        for n in range(20):
            pool.apply(total if n % 3 else keep, (made(n),))
        assert pool.apply(kept) == [total(made(n)) for n in range(0, 20, 3)]


def test_what_a_call_has_kept_in_a_child_stays_as_it_was(tmp_path: Path) -> None:
    with Pool(1) as pool:
        pool.apply(keep_in_a_child, (made(0), tmp_path))
        for n in range(1, 20):
            pool.apply(total, (made(n),))
        (tmp_path / "go").touch()
        said = tmp_path / "said"
        wait_until(said.exists, "the child has looked", 20)
        assert said.read_text() == str(total(made(0)))


def test_a_call_that_is_run_again_gets_the_same(tmp_path: Path) -> None:
    with Pool(2, retries=2) as pool:
        results = [pool.submit(fail_at_first, made(n), tmp_path / str(n)) for n in range(8)]
        assert [result.get(PATIENCE) for result in results] == [total(made(n)) for n in range(8)]


def test_blocks_are_written_again_and_given_back() -> None:
    with Pool(1) as pool:
        used = {block for n in range(20) for block in pool.submit(blocks_in_sight, made(n)).get(PATIENCE)}
        assert 1 <= len(used) <= 4
        wait_until(lambda: not blocks_held(), "no block is held", 20)
        pool.apply(total, (made(0),))
    assert not blocks_held()


def test_blocks_of_calls_that_were_cancelled_are_given_back() -> None:
    with Pool(1) as pool:
        first = pool.submit(time.sleep, 0.2)
        for result in [pool.submit(total, made(n)) for n in range(6)]:
            result.cancel()
        del result
        first.get(PATIENCE)
        wait_until(lambda: not blocks_held(), "no block is held", 20)


def test_an_input_that_does_not_travel_keeps_none_of_its_neighbours() -> None:
    """In a circle, they would wait for the collector."""
    gc.disable()
    try:
        with Pool(1) as pool:
            with pytest.raises(NotPicklable):
                pool.map(total, [made(0), threading.Lock()])
            wait_until(lambda: not blocks_held(), "no block is held", 20)
    finally:
        gc.enable()


def test_a_spare_block_is_no_larger_than_what_is_written_into_it() -> None:
    with Pool(1) as pool:
        for n in range(5):
            pool.apply(total, (made(n, 6 * MIB),))  # of 48 MiB
            pool.apply(keep, (made(n, 5 * MIB // 8),))
        assert pool.apply(memory_of_blocks) <= 5 * 6 * MIB


def test_few_descriptors_are_left() -> None:
    """Large inputs wait as bytes, then, and go one by one."""
    array = made(0, MIB // 4)
    with Pool(2) as pool:
        pool.apply(total, (array,))
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            for _ in range(3):
                os.close(taken.pop())
        try:
            results = [pool.submit(total, array) for _ in range(40)]
            assert {result.get(PATIENCE) for result in results} == {total(array)}
        finally:
            for fd in taken:
                os.close(fd)


def test_what_is_packed_is_packed_once() -> None:
    for size in (10, MIB):
        counted = Counted(size)
        with Pool(1) as pool:
            pool.apply(len, (counted,))
        assert counted.packed == 1


def test_a_forked_child_keeps_none_of_the_blocks() -> None:
    with Pool(1) as pool:
        waiting = pool.submit(time.sleep, 1)
        results = [pool.submit(total, made(n)) for n in range(3)]
        assert blocks_held() >= 3
        waiting.get(PATIENCE)
        assert [result.get(PATIENCE) for result in results] == [total(made(n)) for n in range(3)]
        wait_until(lambda: blocks_held() > 0, "there are spares", 1)
        if (child := os.fork()) == 0:
            os._exit(blocks_held())
        assert os.waitpid(child, 0)[1] == 0


def test_no_more_descriptors_than_a_few() -> None:
    with Pool(1) as pool:
        results = [pool.submit(total, made(n)) for n in range(60)]
        assert blocks_held() <= 40
        assert [result.get(PATIENCE) for result in results] == [total(made(n)) for n in range(60)]


def test_many_results_held_at_once() -> None:
    with Pool(2) as pool:
        held = list(pool.starmap(made, [(n, 20_000) for n in range(1500)]))
        for n, array in enumerate(held):
            assert array[0] == n and array[-1] == n + 20_000 - 1


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 1_048_576, 1_048_577, 3 * MIB])
def test_every_size_of_bytes(size: int) -> None:
    data = os.urandom(size)
    with Pool(2) as pool:
        for value in (data, bytearray(data), data.hex(), [data, data], np.frombuffer(data, np.uint8)):
            for back in (pool.apply(calls.stand_if, ((None, False, value),)), *pool.imap(bounce, iter([value] * 3))):
                assert type(back) is type(value)
                assert np.array_equal(back, value) if isinstance(value, np.ndarray) else back == value


def bounce(value: Any) -> Any:
    return value


def test_structures_with_arrays_in_them() -> None:
    with Pool(2) as pool:
        even, rest, words = pool.apply(split, (made(0),))
        assert np.array_equal(even, np.arange(0, MIB, 2)) and np.array_equal(rest["rest"], np.arange(1, MIB, 2))
        assert words == "words"
        frame = np.zeros(100_000, dtype=[("a", "i4"), ("b", "f8")])
        assert pool.apply(bounce, (frame,)).dtype == frame.dtype
        fortran = np.asfortranarray(made(0).reshape(1024, 1024))
        back = pool.apply(bounce, (fortran,))
        assert np.array_equal(back, fortran) and back.flags.f_contiguous
        objects = np.array([1, "x", None] * 50_000, dtype=object)
        assert pool.apply(bounce, (objects,)).tolist() == objects.tolist()
        assert pool.apply(total, (made(0)[::3],)) == total(made(0)[::3])


def test_an_array_in_a_closure() -> None:
    array = made(3)
    with Pool(2) as pool:
        assert pool.map(lambda n: int(array[n]), range(100)) == list(range(3, 103))


def test_a_death_with_big_data_in_flight() -> None:
    with Pool(2) as pool:
        found = outcomes(pool.imap(die_with, (made(n % 10, 100_000) for n in range(100))))
    assert len(found) == 100
    for n, one in enumerate(found):
        if n % 10 == 3:
            assert isinstance(one, WorkerDied)
        else:
            assert np.array_equal(one, made(n % 10, 100_000))


def test_a_big_exception(tmp_path: Path) -> None:
    def fails(size: int) -> None:
        raise ValueError("x" * size)

    with Pool(1) as pool:
        for size in (10, 70_000, 3 * MIB):
            with pytest.raises(ValueError, match="x") as caught:
                pool.apply(fails, (size,))
            assert caught.value.args == ("x" * size,)
        assert pool.apply(calls.double, (1,)) == 2


@pytest.mark.parametrize("size", [70_000, 500_000, 2_000_000])
def test_what_the_caller_changes_while_a_call_waits_does_not_travel(size: int, gate: Gate) -> None:
    """Of an array that has a block of its own at once, and of smaller ones."""
    array = np.zeros(size, np.uint8)
    with Pool(1) as pool:
        pool.submit(calls.stand, gate)
        gate.reached()
        result = pool.submit(np.sum, array)
        array[:] = 1
        gate.open()
        assert result.get(20) == 0


@pytest.mark.parametrize("looks", [0, 1])
def test_a_block_that_is_dropped_is_closed_once(looks: int) -> None:
    """A child that is forked in the midst of it would close the number again, which may be a lock's by then."""
    spares = Spares(lambda: None)
    written = Written(Parts(b"", [bytes(1 << 20)]), spares)
    written.looks = looks
    written.__del__()
    spare = spares.take()
    assert (written.fd, spare is None) == (-1, bool(looks))
    if spare is not None:
        os.close(spare)
