"""What the users do: threads that ask pools for calls, in every way there is, and write down what came of them."""

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

from procoro import errors
from procoro.results import Result
from tests.chaos import given, kinds
from tests.chaos.books import Books, Call, Setting

PATIENCE = 120.0  # seconds without an end: a hang
NUMBERS = 1 << 18  # each user's calls


class User(threading.Thread):
    """One thread that does one thing after another, until it has made so many calls."""

    def __init__(self, number: int, seed: str, calls: int, settings: list[Setting], books: Books) -> None:
        super().__init__(name=f"user {number}", daemon=True)
        self.random = random.Random(f"user {number} of {seed}")
        self.left = calls
        self.slow = 2 + calls // 200  # attempts that last until somebody ends them
        self.settings = settings
        self.books = books
        self._number = number * NUMBERS

    def run(self) -> None:
        from tests.chaos.streams import condemned, stream, whole_map

        deeds: dict[Callable[[User, Setting], None], int] = {
            submits: 30, callbacks: 20, applies: 10, cancels: 15, kills: 10, awaits: 15, whole_map: 20, stream: 60,
            condemned: 20,
        }  # fmt: skip
        while self.left > 0:
            deed = self.random.choices(list(deeds), list(deeds.values()))[0]
            try:
                deed(self, self.random.choice(self.settings))
            except errors.PoolClosed:
                if all(setting.ending == "terminated" for setting in self.settings):
                    return
            except BaseException as error:
                import traceback

                self.books.wrong(f"{self.name}, {deed.__name__}: {error!r}\n{traceback.format_exc()}")
                return

    # ------------------------------------------------------------------------------------- new calls

    def draw(
        self, setting: Setting, timeout: float | None = None, most: int = 200, innocent: float = 0.25
    ) -> list[Call]:
        """New calls: for a pool, one or many, innocents only or of all kinds."""
        count = min(self.random.choice([1, 2, 5, 20, 20, most]), max(self.left, 1))
        all_innocent = self.random.random() < innocent
        return [self.one(setting, timeout or setting.timeout, all_innocent) for _ in range(count)]

    def one(self, setting: Setting, timeout: float | None, innocent: bool = False, endless: bool = False) -> Call:
        """A new call of a random kind; `endless`: somebody will end it."""
        chosen = kinds.innocent() if innocent else kinds.KINDS
        able = [kind for kind in chosen if not kind.needs or endless or self._ends(kind, timeout, setting)]
        kind = self.random.choices(able, [kind.weight * (20 if endless and kind.needs else 1) for kind in able])[0]
        return self._new(kind, setting)

    def packet(self, setting: Setting) -> list[Call]:
        """New calls: one that may end just when it is to be killed, and innocents around it."""
        return [self._new(kind, setting) for name in kinds.PACKET for kind in kinds.KINDS if kind.name == name]

    def _new(self, kind: kinds.Kind, setting: Setting) -> Call:
        self.slow -= (1 + setting.retries) * bool(kind.needs)
        self.left -= 1
        self._number += 1
        call = Call(self._number, kind, given.make(self.random, self._number, kinds.KINDS.index(kind), kind), setting)
        self.books.enter(call)
        return call

    def _ends(self, kind: kinds.Kind, timeout: float | None, setting: Setting) -> bool:
        return self.slow > 0 and (setting.memory if kind.needs == kinds.MEMORY else timeout) is not None

    def arguments(self, call: Call) -> tuple[Any, ...]:
        if type(call.given) is not int and self.random.random() < 0.3:
            return call.given, call.given.token
        return (call.given,)

    def send(self, call: Call, submit: Callable[..., Result[Any]] | None = None) -> Result[Any] | None:
        """Submit a call; None if it was refused at the door."""
        try:
            if submit is not None:
                return submit(given.functions(self.random), self.arguments(call))
            if self.random.random() < 0.2:
                return call.setting.pool.submit(given.run, given=call.given)
            return call.setting.pool.submit(given.functions(self.random), *self.arguments(call))
        except errors.NotPicklable as error:
            call.end(False, error)
        except errors.PoolClosed:
            self.books.strike(call)
        return None

    def send_all(self, calls: list[Call]) -> list[tuple[Call, Result[Any]]]:
        return [(call, result) for call in calls if (result := self.send(call)) is not None]

    def take(self, call: Call, get: Callable[..., Any], *arguments: Any) -> None:
        """Write down how a call ends."""
        try:
            call.end(True, get(*arguments))
        except errors.WaitTimeout:
            self.books.wrong(f"{call!r}: no end within {PATIENCE} s")
        except BaseException as error:
            call.end(False, error)

    def some(self, sent: list[tuple[Call, Result[Any]]]) -> list[tuple[Call, Result[Any]]]:
        return self.random.sample(sent, self.random.randint(0, len(sent)))


# ------------------------------------------------------------------------------------------ what users do


def submits(user: User, setting: Setting) -> None:
    """Submit, give up waiting now and then, and take the results in any order."""
    sent = user.send_all(user.draw(setting))
    for _, result in user.some(sent)[:5]:
        try:
            result.result(user.random.choice([0, 0.001, 0.02]))
        except errors.WaitTimeout as error:
            user.books.require("no result within" in str(error), f"words of {error!r}")
        except BaseException:
            pass  # it is asked for again
    match user.random.randrange(3):
        case 0:
            done = list(futures.as_completed([result for _, result in sent], PATIENCE))
            user.books.require(len(done) == len(sent), "as_completed has not told of all")
        case 1:
            futures.wait([result for _, result in sent], PATIENCE)
    for call, result in user.random.sample(sent, len(sent)):
        user.take(call, result.result, PATIENCE)


def callbacks(user: User, setting: Setting) -> None:
    """Ask to be told; some of those who are told raise."""

    def submit(function: Any, arguments: tuple[Any, ...]) -> Result[Any]:
        told: list[bool] = []
        raised = user.random.choice([None, None, None, ValueError, SystemExit])

        def tell(ok: bool) -> Callable[[Any], None]:
            def callback(_: Any) -> None:
                told.append(ok)
                if raised is not None:
                    raise raised("in a callback")

            return callback

        calls_told.append(told)
        if user.random.random() < 0.5:
            return setting.pool.apply_async(function, arguments, callback=tell(True), error_callback=tell(False))
        result = setting.pool.submit(function, *arguments)
        result.wait(user.random.choice([0, 0, 0.001, 0.02]))  # it may be over: then it is told at once
        result.add_done_callback(lambda done: told.append(not done.cancelled() and done.exception() is None))
        return result

    calls_told: list[list[bool]] = []
    sent = []
    for call in user.draw(setting, most=60):
        result = user.send(call, submit)
        if result is not None:
            call.told = calls_told[-1]
            sent.append((call, result))
    if user.random.random() < 0.3:
        _cancel(user, user.some(sent))
    for call, result in sent:
        user.take(call, result.get, PATIENCE)


def applies(user: User, setting: Setting) -> None:
    for call in user.draw(setting, most=10):
        try:
            user.take(call, setting.pool.apply, given.functions(user.random), user.arguments(call))
        except errors.PoolClosed:
            user.books.strike(call)
        if call.endings and isinstance(call.endings[0][1], errors.PoolClosed):
            call.endings.clear()
            user.books.strike(call)


def cancels(user: User, setting: Setting) -> None:
    """Cancel some, at once or a little later; those that run may go on."""
    sent = user.send_all(user.draw(setting))
    if user.random.random() < 0.5 and sent:
        sent[0][1].wait(user.random.choice([0.001, 0.01]))
    _cancel(user, user.some(sent))
    for call, result in sent:
        user.take(call, result.result, PATIENCE)


def _cancel(user: User, sent: list[tuple[Call, Result[Any]]]) -> None:
    for call, result in sent:
        call.may.add("cancelled")
        if result.cancel():
            call.is_cancelled = True
            user.books.require(result.cancelled() and result.done(), f"{call!r} was cancelled, and is not")
        else:
            call.may.discard("cancelled")


def kills(user: User, setting: Setting) -> None:
    """Kill some: waiting, running, or over; among them such as never end by themselves."""
    doomed = [user.one(setting, setting.timeout, endless=True) for _ in range(user.random.choice([1, 2, 5]))]
    calls = doomed + user.draw(setting, most=40)
    user.random.shuffle(calls)
    sent = user.send_all(calls)
    for call, result in sent:
        if call in doomed:
            result.wait(user.random.choice([0, 0, 0.01, 0.1]))
            call.may |= {"killed", "cancelled"}
            while not result.kill() and not result.ready():
                result.wait(0.05)
    for call, result in sent:
        user.take(call, result.result, PATIENCE)


def awaits(user: User, setting: Setting) -> None:
    """Await from an event loop of one's own; some of the tasks are cancelled."""
    sent = user.send_all(user.draw(setting))

    async def wait_for(result: Result[Any]) -> tuple[bool, Any]:
        try:
            return True, await result
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a SystemExit would end the loop
            return False, error

    async def main() -> None:
        tasks = [(call, asyncio.ensure_future(wait_for(result))) for call, result in sent]
        await asyncio.sleep(user.random.choice([0, 0, 0.001, 0.02]))
        for call, task in user.random.sample(tasks, len(tasks) // 4):
            call.may.add("cancelled")
            task.cancel()
        if tasks:
            _, late = await asyncio.wait([task for _, task in tasks], timeout=PATIENCE)
            user.books.require(not late, f"{len(late)} tasks wait for ever")
        for call, task in tasks:
            if task.done() and not task.cancelled():
                call.end(*task.result())

    asyncio.run(main())
    for call, result in sent:
        if not call.endings:
            user.take(call, result.result, PATIENCE)
