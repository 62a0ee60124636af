"""What the users do with whole maps and with streams: drained, left early, closed, from many threads, awaited."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from procoro import errors
from procoro.results import Stream
from tests.chaos import given, kinds
from tests.chaos.books import Call, Setting
from tests.chaos.user import PATIENCE, User


class InputBroke(Exception):
    """The iterator that inputs are pulled from raises."""


def whole_map(user: User, setting: Setting) -> None:
    """`map` and its kin: all values, or the exception of the first that failed."""
    calls = _placed(user.draw(setting, innocent=0.6))
    function, chunk = given.functions(user.random), user.random.choice([None, None, 1, 7, 1024])
    star = user.random.random() < 0.4
    inputs: Any = [user.arguments(call) if star else call.given for call in calls]
    if user.random.random() < 0.3:
        inputs = iter(inputs)
    told: list[bool] = []
    try:
        if user.random.random() < 0.5:
            method = setting.pool.starmap if star else setting.pool.map
            values = method(function, inputs, chunk)
        else:
            later = setting.pool.starmap_async if star else setting.pool.map_async
            result = later(
                function,
                inputs,
                chunk,
                callback=lambda _: told.append(True),
                error_callback=lambda _: told.append(False),
            )
            for call in calls:
                call.told = told
            if user.random.random() < 0.3:
                values = asyncio.run(_awaited(result))
            else:
                values = result.get(PATIENCE)
    except errors.PoolClosed:
        for call in calls:
            user.books.strike(call)
        raise
    except BaseException as error:
        _map_failed(user, calls, error)
    else:
        user.books.require(len(values) == len(calls), f"a map of {len(calls)} has {len(values)} values")
        for call, value in zip(calls, values, strict=False):
            call.end(True, value)
    _check_told(user, calls, told)


async def _awaited(result: Any) -> Any:
    return await result


def _map_failed(user: User, calls: list[Call], error: BaseException) -> None:
    for call in calls:
        call.may |= {"unseen", "mapped"}
    failed = errors.failed_call(error)
    if isinstance(error, errors.PoolTerminated):
        user.books.require(calls[0].setting.ending == "terminated", f"a map ends with {error!r}")
        return
    if failed is None:
        user.books.wrong(f"a map ends with {error!r}, of no call; of {calls[:3]}...")
        return
    calls[failed.number].end(False, error)
    first = [call for call in calls[: failed.number] if not call.kind.good]
    user.books.require(not first, f"a map ends with {error!r}, and fails earlier: {first[:3]}")


def _check_told(user: User, calls: list[Call], told: list[bool]) -> None:
    """A map's callbacks are told once of the whole of it."""
    if calls[0].told is not told:
        return
    ok = all(call.endings and call.endings[0][0] for call in calls)
    for call in calls:
        call.told = None
    user.books.expected.append((told, ok, f"a map of {calls[0]!r} and {len(calls) - 1} more"))


def _placed(calls: list[Call]) -> list[Call]:
    for place, call in enumerate(calls):
        call.place = place
    return calls


# ----------------------------------------------------------------------------------------------- streams


class Taker:
    """Writes down what a stream says, at its place."""

    def __init__(self, user: User, calls: list[Call], ordered: bool) -> None:
        self.user = user
        self.calls = calls
        self.ordered = ordered
        self.taken = 0
        self.broke = 0  # how often it said that the iterator of inputs raised
        self.lock = threading.Lock()

    def take(self, ask: Callable[[], Any]) -> bool:
        """One more; False at the end."""
        try:
            value = ask()
        except (StopIteration, StopAsyncIteration):
            return False
        except BaseException as error:
            return self.note(False, error)
        return self.note(True, value)

    def note(self, ok: bool, outcome: Any) -> bool:
        with self.lock:
            return self._note(ok, outcome)

    def _note(self, ok: bool, outcome: Any) -> bool:
        if isinstance(outcome, InputBroke):
            self.broke += 1
            return True
        if isinstance(outcome, errors.WaitTimeout):
            self.user.books.wrong(f"a stream stands still at {self.taken} of {self.calls[:3]}...")
            return False
        told = None if ok else errors.failed_call(outcome)
        if ok and not self.ordered:
            number = kinds.number_of(outcome)
            call = next((call for call in self.calls if call.number == number), None)
        else:
            place = self.taken if self.ordered else told.number if told is not None else -1
            call = self.calls[place] if 0 <= place < len(self.calls) else None
        if isinstance(outcome, errors.PoolTerminated) and (call is None or call.endings or told is None):
            return True  # the stream was refused as a whole
        self.taken += 1
        if call is None:
            self.user.books.wrong(f"a stream says {outcome!r:.200}, of none of its calls")
        else:
            call.end(ok, outcome)
        return True


def stream(user: User, setting: Setting) -> None:
    """`imap` and `imap_unordered`, from lists and generators, to the end or not."""
    timeout, retries = user.random.choice([None, None, 1.2]), user.random.choice([None, None, None, 0, 1])
    calls = _placed(user.draw(setting, timeout, most=user.random.choice([200, 1000])))
    for call in calls:
        call.retries = setting.retries if retries is None else retries
    ordered, breaks = user.random.random() < 0.5, user.random.random() < 0.2
    inputs: Any = [call.given for call in calls]
    if breaks or user.random.random() < 0.6:
        inputs = _pulled(user, inputs, breaks)
    method = setting.pool.imap if ordered else setting.pool.imap_unordered
    chunk = user.random.choice([None, None, None, 1, 5, 200])
    try:
        asked = method(given.functions(user.random), inputs, chunk, timeout=timeout, retries=retries)
    except errors.PoolClosed:
        for call in calls:
            user.books.strike(call)
        raise
    del inputs
    how = user.random.choice(WAYS)
    if how is _by_threads:
        ordered = False  # nobody can tell who was first
    taker = Taker(user, calls, ordered)
    whole = how(user, taker, asked)
    if setting.ending == "terminated":
        for call in calls:
            call.may.add("unseen")
    elif whole:
        user.books.require(taker.broke == breaks, f"an iterator's error was told {taker.broke} times, not {breaks:d}")
        user.books.require(
            taker.taken == len(calls), f"a stream of {len(calls)} has {taker.taken} ends: {how.__name__}"
        )


def condemned(user: User, setting: Setting) -> None:
    """In each packet one call may end just when it is to be killed: those behind it must not be hit."""
    packets = [user.packet(setting) for _ in range(min(user.slow, 3))]
    calls = _placed([call for packet in packets for call in packet])
    if not calls:
        return
    for call in calls:
        call.retries = 0
        call.may |= {"unseen"} if setting.ending == "terminated" else set()
    try:
        inputs = [call.given for call in calls]
        asked = setting.pool.imap(given.run, inputs, len(packets[0]), timeout=kinds.LIMIT, retries=0)
    except errors.PoolClosed:
        for call in calls:
            user.books.strike(call)
        raise
    _to_the_end(user, Taker(user, calls, True), asked)


def _pulled(user: User, inputs: list[Any], breaks: bool) -> Iterator[Any]:
    slow = user.random.random() < 0.2 and len(inputs) <= 50
    log = user.books.closings

    def pull() -> Iterator[Any]:
        log.append("opened")
        try:
            for one in inputs:
                if slow:
                    time.sleep(0.002)
                yield one
            if breaks:
                raise InputBroke
        finally:
            log.append("closed")

    return pull()


def _to_the_end(user: User, taker: Taker, asked: Stream[Any]) -> bool:
    by_for = user.random.random() < 0.5
    while by_for:
        try:
            for value in asked:
                taker.note(True, value)
            return True
        except BaseException as error:
            taker.note(False, error)
    while taker.take(lambda: asked.next(PATIENCE)):
        pass
    return True


def _impatiently(user: User, taker: Taker, asked: Stream[Any]) -> bool:
    """With waits that give up."""

    def ask() -> Any:
        for _ in range(20):
            try:
                return asked.next(0.001)
            except errors.WaitTimeout:
                pass
        return asked.next(PATIENCE)

    while taker.take(ask):
        pass
    return True


def _take_some(user: User, taker: Taker, asked: Stream[Any]) -> None:
    for _ in range(user.random.choice([0, 1, 3, 30])):
        if not taker.take(lambda: asked.next(PATIENCE)):
            return


def _and_leave(user: User, taker: Taker, asked: Stream[Any]) -> bool:
    """Some, and then it is dropped: what was pulled still runs, and nobody looks."""
    _take_some(user, taker, asked)
    for call in taker.calls:
        call.may.add("unseen")
    return False


def _and_close(user: User, taker: Taker, asked: Stream[Any]) -> bool:
    """Some, then no more: what has not begun does not begin."""
    _take_some(user, taker, asked)
    for call in taker.calls:
        call.may |= {"dropped", "cancelled"}
    asked.close()
    _impatiently(user, taker, asked)
    return False


def _and_drain(user: User, taker: Taker, asked: Stream[Any]) -> bool:
    """Some, then no more inputs."""
    _take_some(user, taker, asked)
    for call in taker.calls:
        call.may.add("dropped")
    asked.drain()
    _impatiently(user, taker, asked)
    return False


def _by_threads(user: User, taker: Taker, asked: Stream[Any]) -> bool:
    def take() -> None:
        while taker.take(lambda: asked.next(PATIENCE)):
            pass

    threads = [threading.Thread(target=take, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return True


def _awaiting(user: User, taker: Taker, asked: Stream[Any]) -> bool:
    async def main() -> None:
        while True:
            try:
                value = await asked.__anext__()  # not in a task of its own: a SystemExit would end the loop
            except StopAsyncIteration:
                return
            except BaseException as error:
                taker.note(False, error)
            else:
                taker.note(True, value)

    asyncio.run(main())
    return True


WAYS = [_to_the_end] * 3 + [_impatiently, _by_threads, _awaiting, _and_leave, _and_close, _and_drain]
