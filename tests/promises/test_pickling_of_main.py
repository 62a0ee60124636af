"""What a program defines itself travels both ways, and is the same thing on both sides."""

from tests.promises.conftest import Script


def test_functions_of_every_kind(script: Script) -> None:
    said = script(
        """
        import contextlib, functools
        from procoro import Pool

        N = 10

        def logged(function):
            @functools.wraps(function)
            def inner(*args, **kwargs):
                return function(*args, **kwargs) + N
            return inner

        @logged
        def decorated(x, y=1, *, z=2): return x + y + z

        @logged
        def counts_down(n): return 0 if n == 0 else counts_down(n - 1)

        @functools.lru_cache(maxsize=7)
        def cached(x): return x + N

        def uses_cached(x): return cached(x), cached.cache_parameters()["maxsize"]

        @functools.singledispatch
        def kind(x): return "other"

        @kind.register
        def _(x: int): return "int"

        @contextlib.contextmanager
        def managed(x): yield x + N

        def uses_managed(x):
            with managed(x) as value:
                return value

        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n > 0 and even(n - 1)

        def default(x, y=[N], *, z={"a": N}): return x + y[0] + z["a"]

        def adder(n):
            def add(x): return x + n + N
            return add

        def local_recursion():
            def factorial(n): return 1 if n == 0 else n * factorial(n - 1)
            return factorial

        def counter():
            seen = []
            def count(x):
                seen.append(x)
                return len(seen)
            return count

        class Power:
            def __init__(self, n): self.n = n
            def __call__(self, x): return x ** self.n + N
            def method(self, x): return x * self.n + N
            @classmethod
            def of(cls, x): return cls(x).n + N
            @staticmethod
            def plain(x): return x + N

        class Cube(Power):
            def __init__(self): super().__init__(3)
            def method(self, x): return super().method(x) + __class__(). n

        async def waits(x): return x + N

        functions = [
            decorated, counts_down, cached, uses_cached, kind, uses_managed, even, default, adder(3),
            local_recursion(), Power(2), Power(2).method, Power(2).of, Power.of, Power.plain, Cube(), Cube().method,
            functools.partial(lambda x, y: x - y + N, 100), functools.partial(Power(3).method),
            functools.partial(functools.partial(pow, 2)), lambda x, *a, **k: (x, a, k, N), (lambda: lambda x: x + N)(),
            [5, 3, 5].count, {5: 6}.get, "x".__mul__, complex, int.bit_length,
        ]
        with Pool(2) as pool:
            for function in functions:
                wanted = function(5)
                assert pool.submit(function, 5).get() == wanted, function
                assert pool.map(function, [5, 5]) == [wanted] * 2, function
                assert list(pool.imap(function, iter([5]))) == [wanted], function
            assert pool.submit(waits, 1).get() == 11 and pool.map(waits, [1]) == [11]
            # As arguments and results, too:
            assert pool.submit(lambda f, *, g: (f(1), g(2)), adder(1), g=cached).get() == (12, 12)
            back = pool.submit(lambda: (decorated, adder(5), Power.of, Power(2).method, cached, lambda x: x + N)).get()
            assert back[0] is decorated and back[4] is cached
            N = 20  # what comes back looks up the caller's own globals
            assert [f(1) for f in back[1:4]] == [26, 21, 22] and back[5](1) == 21
            count = pool.submit(counter).get()
            assert (count(1), count(1)) == (1, 2)
            print("done")
        """
    )
    assert said == "done\n"


def test_classes_and_their_instances_hold_their_identity(script: Script) -> None:
    said = script(
        """
        import abc, collections, dataclasses, enum, functools, typing
        from procoro import Pool

        T = typing.TypeVar("T")

        class Plain:
            class Inner:
                class Innermost: pass

        class Slots:
            __slots__ = ("a", "__hidden", "__weakref__")
            def __init__(self, a): self.a, self.__hidden = a, -a
            def held(self): return self.a, self.__hidden

        class MoreSlots(Slots):
            __slots__ = {"b": "its words"}
            def __init__(self, a): super().__init__(a); self.b = 2 * a
            def held(self): return super().held(), self.b

        @dataclasses.dataclass
        class Data:
            x: int
            y: list = dataclasses.field(default_factory=list)

        @dataclasses.dataclass(frozen=True)
        class Frozen:
            x: int

        @dataclasses.dataclass(slots=True)
        class Slotted:
            x: int

        @dataclasses.dataclass(frozen=True, slots=True, order=True)
        class Both:
            x: int

        @dataclasses.dataclass(kw_only=True)
        class Keywords:
            x: int
            y: typing.ClassVar[int] = 3

        class Named(typing.NamedTuple):
            a: int
            b: int = 2
            def total(self): return self.a + self.b

        Pair = collections.namedtuple("Pair", "a b")

        class Abstract(abc.ABC):
            @abc.abstractmethod
            def go(self): ...

        class Concrete(Abstract):
            def go(self): return "gone"

        @typing.runtime_checkable
        class Goes(typing.Protocol):
            def go(self) -> str: ...

        class Box(typing.Generic[T]):
            def __init__(self, held: T): self.held = held

        class IntBox(Box[int]): pass

        class Keyed(typing.TypedDict):
            a: int

        class Counts(type):
            made = []
            def __new__(meta, name, bases, body, *, tag):
                made = super().__new__(meta, name, bases, body)
                made.tag = tag
                meta.made.append(name)
                return made
            def __init__(cls, name, bases, body, *, tag): super().__init__(name, bases, body)

        class Counted(metaclass=Counts, tag="t"):
            pass

        class Registry:
            known = []
            def __init_subclass__(cls, *, key):
                cls.key = key
                Registry.known.append(key)

        class Registered(Registry, key="k"):
            pass

        class SlotRegistry(Slots):
            __slots__ = ()
            def __init_subclass__(cls, *, key): cls.key = key

        class SlotRegistered(SlotRegistry, key="sk"):
            __slots__ = ("c",)

        class Lazy:
            n = 1
            @property
            def twice(self): return 2 * self.n
            @functools.cached_property
            def thrice(self): return 3 * self.n
            @functools.singledispatchmethod
            def kind(self, x): return "other"
            @kind.register
            def _(self, x: int): return "int"
            add = functools.partialmethod(lambda self, a, b: a + b + self.n, 1)

        class Field:
            def __set_name__(self, owner, name): self.name = name
            def __get__(self, instance, owner): return "field " + self.name

        class HasField:
            x = Field()

        class MyDict(dict):
            pass

        class MyInt(int): pass

        class WithNew:
            def __new__(cls, a, *, k):
                made = super().__new__(cls)
                made.a, made.k = a, k
                return made
            def __getnewargs_ex__(self): return (self.a,), {"k": self.k}

        class Only:
            def __reduce__(self): return "ONLY"
        ONLY = Only()

        def local():
            class Local:
                __slots__ = ("a",)
                def me(self): return Local, __class__
            return Local
        Local = local()

        values = [
            Plain(), Plain.Inner(), Plain.Inner.Innermost(), Slots(1), MoreSlots(2), Data(1), Frozen(1), Slotted(1),
            Both(1), Keywords(x=1), Named(1), Pair(1, 2), Concrete(), Box(1), IntBox(1), Counted(), Registered(),
            SlotRegistered(4), Lazy(), HasField(), MyDict(a=1), MyInt(3), WithNew(1, k=2), ONLY, Local(),
        ]
        classes = [*map(type, values), Abstract, Goes, Keyed, Counts, T, Box[int], list[Plain]]

        def knows(value, cls): return type(value) is cls and isinstance(value, cls)

        def look():
            try:
                Abstract()
            except TypeError:
                abstract = True
            return (
                Slots(1).held(), MoreSlots(2).held(), hasattr(MoreSlots(2), "__dict__"), MoreSlots.__slots__,
                Both(1) < Both(2), hash(Frozen(3)), Data(1).y, Keywords.y, Named(1).total(), abstract,
                isinstance(Concrete(), Goes), Counted.tag, Counts.made, Registered.key, Registry.known,
                SlotRegistered.key, SlotRegistered(5).held(), hasattr(SlotRegistered(5), "__dict__"),
                Lazy().twice, Lazy().thrice, Lazy().kind(1), Lazy().kind(""), Lazy().add(2), HasField.x,
                IntBox.__orig_bases__, Box[int].__args__, Data.__name__, Plain.Inner.__qualname__,
            )

        with Pool(2) as pool:
            for value in values:
                cls = type(value)
                one, (two,), (three,) = (
                    pool.submit(lambda x: x, value).get(), pool.map(lambda _: value, [0]),
                    list(pool.imap_unordered(lambda x: x, iter([value]))),
                )
                assert [type(back) for back in (one, two, three)] == [cls] * 3, (value, one, two, three)
                assert pool.submit(knows, value, cls).get(), value
                if cls.__eq__ is not object.__eq__:
                    assert one == two == three == value, value
            assert MoreSlots.held(pool.submit(MoreSlots, 3).get()) == ((3, -3), 6)
            assert pool.submit(lambda: ONLY).get() is ONLY
            for cls in classes:
                back = pool.submit(lambda x: x, cls).get()
                assert back is cls or back == cls, cls
            for there, here in zip(pool.submit(look).get(), look(), strict=True):
                assert there == here, (there, here)
            made = pool.submit(Local).get()
            assert type(made) is Local and made.me() == (Local, Local)
            print("done")
        """
    )
    assert said == "done\n"


def test_enums_are_the_callers_own_members(script: Script) -> None:
    said = script(
        """
        import enum
        from procoro import Pool

        class Color(enum.Enum):
            RED = 1
            GREEN = [2]
            CRIMSON = 1
            other = enum.nonmember(7)
            def shout(self): return self.name + "!"
            @classmethod
            def first(cls): return cls.RED

        class Planet(enum.Enum):
            EARTH = 5.9, 6.3
            MARS = 0.6, 3.3
            def __init__(self, mass, radius): self.mass, self.radius = mass, radius

        class Coordinate(bytes, enum.Enum):
            def __new__(cls, value, label):
                made = bytes.__new__(cls, [value])
                made._value_, made.label = value, label
                return made
            X = 0, "x axis"
            Y = 1, "y axis"

        class Auto(enum.Enum):
            def _generate_next_value_(name, *_): return name.lower()
            ONE = enum.auto()

        class Operation(enum.Enum):
            double = enum.member(lambda x: 2 * x)
            @enum.member
            def half(x): return x / 2

        class Rights(enum.Flag):
            R, W, X = 4, 2, 1
            RW = R | W

        class Loose(enum.IntFlag, boundary=enum.KEEP):
            A = 1

        class Small(enum.IntEnum):
            A = 1

        class Word(enum.StrEnum):
            A = enum.auto()

        Made = enum.Enum("Made", "P Q")

        def local():
            class Inside(enum.Enum):
                A = 1
                def next(self): return Inside.A
            return Inside
        Inside = local()

        members = [
            *Color, Color.CRIMSON, *Planet, *Coordinate, *Auto, *Operation, *Rights, Rights.RW, *Loose, *Small, *Word,
            *Made, *Inside,
        ]

        def look():
            return (
                Color.RED.shout(), Color.first() is Color.RED, Color.CRIMSON is Color.RED, Color.other,
                Color(1) is Color.RED, list(Color.__members__), Planet.MARS.mass, Planet((0.6, 3.3)).radius,
                bytes(Coordinate.Y), Coordinate.Y.value, Coordinate(1).label, Auto.ONE.value,
                Operation.double.value(4), Operation.half.value(4), Rights.RW.name, list(Rights.RW),
                (Rights.R | Rights.X).value, ~Rights.R == Rights.W | Rights.X, Loose(9).value, Small.A + 1,
                Word.A + "b", Made["Q"].value, Inside.A.next() is Inside.A, repr(Color.GREEN), str(Word.A),
            )

        def same(member, name):
            return member is type(member)[name], getattr(type(member), name) is member

        with Pool(2) as pool:
            for member in members:
                assert pool.submit(lambda x: x, member).get() is member, member
                assert pool.map(lambda _: member, [0])[0] is member, member
                assert pool.submit(same, member, member.name).get() == (True, True), member
            assert pool.submit(lambda: Rights.R | Rights.X).get() == Rights.R | Rights.X
            for there, here in zip(pool.submit(look).get(), look(), strict=True):
                assert there == here, (there, here)
            for cls in (Color, Planet, Coordinate, Rights, Made, Inside):
                assert pool.submit(lambda x: x, cls).get() is cls
            print("done")
        """
    )
    assert said == "done\n"


def test_a_name_that_cannot_be_rebuilt_is_the_error_of_who_needs_it(script: Script) -> None:
    said = script(
        """
        import os
        from procoro import Pool, errors

        HOME = os.getpid()

        class Settled:
            def __init__(self): self.home = os.getpid()
            def __setstate__(self, state):
                if os.getpid() != HOME: raise RuntimeError("it stays at home")

        SETTLED = Settled()

        def uses(_=None): return SETTLED
        def by_another(_=None): return uses()
        def innocent(x=1): return x

        with Pool(1) as pool:
            for function in (uses, by_another, lambda: by_another()):
                for _ in range(2):
                    error = pool.submit(function).exception()
                    print(type(error).__name__, error.args)
                print(pool.submit(innocent).get(), pool.map(lambda x: innocent(x), [2]))
            SETTLED = "settled anew"
            print(pool.submit(by_another).get())
        """
    )
    one = "RuntimeError ('it stays at home',)\n" * 2 + "1 [2]\n"
    assert said == one * 3 + "settled anew\n"


def test_what_cannot_travel_is_named_by_its_path(script: Script) -> None:
    said = script(
        """
        import functools, threading
        from procoro import Pool, errors

        lock = threading.Lock()
        table = {"x": [0, lock]}

        def uses(x): return lock
        def by_table(x): return table
        def helper(x): return uses(x)
        def by_helper(x): return helper(x)
        def default(x, y=lock): return x
        def keyword(x, *, y=(1, lock)): return x
        class Holds:
            lock = lock
        class Makes:
            def method(self, x): return uses(x)

        calls = {
            "global": lambda: pool.submit(uses, 1),
            "in a global": lambda: pool.map(by_table, [1]),
            "by way of others": lambda: pool.imap(by_helper, [1]),
            "default": lambda: pool.submit(default, 1),
            "keyword": lambda: pool.submit(keyword, 1),
            "lambda": lambda: pool.submit(lambda: helper(1)),
            "argument": lambda: pool.submit(print, 1, uses),
            "partial": lambda: pool.submit(functools.partial(uses, 1)),
            "method": lambda: pool.submit(Makes().method, 1),
            "class": lambda: pool.submit(Holds),
            "instance": lambda: pool.submit(print, key=[Holds()]),
        }
        with Pool(1) as pool:
            for name, call in calls.items():
                try:
                    call()
                    print("nothing")
                except errors.NotPicklable as error:
                    print(name, "|", str(error).partition(" lives in one process")[0])
            assert pool.submit(abs, -1).get() == 1
        """
    )
    assert said.splitlines() == [
        "global | function uses, global lock: a threading.Lock",
        "in a global | function by_table, global table['x'][1]: a threading.Lock",
        "by way of others | function by_helper, global helper, global uses, global lock: a threading.Lock",
        "default | function default, default of y: a threading.Lock",
        "keyword | function keyword, default of y[1]: a threading.Lock",
        "lambda | function <lambda>.<locals>.<lambda>, global helper, global uses, global lock: a threading.Lock",
        "argument | args[1], global lock: a threading.Lock",
        "partial | function uses.func, global lock: a threading.Lock",
        "method | function Makes.method.__func__, global Makes.method, global uses, global lock: a threading.Lock",
        "class | function Holds.lock: a threading.Lock",
        "instance | kwargs['key'][0].lock: a threading.Lock",
    ]


def test_a_name_that_comes_later_is_seen_by_a_submit(script: Script) -> None:
    """As in a notebook, in which a cell was not run yet; and of one that was taken away, and has another value now."""
    said = script(
        """
        from procoro import Pool
        N = 3
        def uses(x): return helper(x)
        def outer(x): return uses(x)
        def adds(x): return x + N
        with Pool(2) as pool:
            for function in (uses, outer):
                try:
                    pool.submit(function, 1).get()
                except NameError as error:
                    print(error)
            print(pool.submit(adds, 1).get())
            def helper(x): return x + 1
            del N
            N = 4
            print(pool.submit(uses, 1).get(), pool.submit(outer, 1).get(), pool.submit(adds, 1).get())
        """
    )
    assert said == "name 'helper' is not defined\nname 'helper' is not defined\n4\n2 2 5\n"


def test_globals_that_change_while_others_submit_are_seen(script: Script) -> None:
    said = script(
        """
        import threading, time
        from procoro import Pool

        N = 0

        def f(x): return N

        def count():
            global N
            while not stop.is_set():
                N += 1
                time.sleep(0)

        def submit(number):
            for _ in range(250):
                before = N
                value = pool.submit(f, 1).get() if number % 2 else pool.map(f, [1])[0]
                if value < before:
                    stale.append((before, value))

        stop, stale = threading.Event(), []
        with Pool(2) as pool:
            counting = threading.Thread(target=count)
            threads = [threading.Thread(target=submit, args=(number,)) for number in range(3)]
            for thread in (counting, *threads):
                thread.start()
            for thread in threads:
                thread.join()
            stop.set()
            counting.join()
        print(stale)
        """
    )
    assert said == "[]\n"


def test_packing_may_change_a_global(script: Script) -> None:
    said = script(
        """
        from procoro import Pool

        packed = 0

        class Counts:
            def __getstate__(self):
                global packed
                packed += 1
                return {"a": 1}

        counts = Counts()

        def f(x): return packed, counts.a

        with Pool(1) as pool:
            for _ in range(3):
                print([a for _, a in pool.map(f, [1])], pool.submit(f, 1).get()[1])
        """
    )
    assert said.splitlines() == ["[1] 1"] * 3


def test_data_of_main_is_packed_the_quick_way_as_the_long_way_would(script: Script) -> None:
    out = script(
        """
        import collections, dataclasses, datetime, decimal, enum, typing

        from procoro import Lock, Pool
        from procoro.wire import twin

        @dataclasses.dataclass
        class Point:
            x: object
            y: object = None

        class Slotted:
            __slots__ = ("a",)
            def __init__(self, a): self.a = a

        class Row(typing.NamedTuple):
            a: int
            b: object

        class Kept:
            def __init__(self, v): self.v = v
            def __getstate__(self): return {"v": self.v}
            def __setstate__(self, state): self.v = state["v"]

        class Outer:
            class Inner: pass

        class Names(list): pass
        class Own:
            def __reduce__(self): return Own, ()
        class Color(enum.Enum): RED = 1

        def function(x): return x

        def kind(x): return type(x).__name__

        twice, round = Point(1), Point(2)
        round.y = round
        quick = [
            Point(1, "a"), [Point(1), Point(2)], Slotted(1), Row(1, Point(2)), Kept(3), Outer.Inner(), function, Point,
            Point(function), Names([Point(1)]), [twice, twice], round, "__main__", {Point: 1},
            Point(datetime.datetime.now(), decimal.Decimal("1.5")), Point(collections.OrderedDict(a=1)),
        ]
        slow = [Color.RED, Own(), ValueError(Point(1)), Point(lambda: 1), Point(Own()), Point(Color.RED)]
        for value in quick:
            assert twin.dumps_plain(value) == twin.dumps(value), value
        for value in slow:
            try:
                twin.dumps_plain(value)
            except twin.NotPlain:
                continue
            raise AssertionError(value)
        values = [*quick, *slow, Point(Lock())]
        with Pool(1) as pool:
            print(pool.map(kind, values) == list(map(kind, values)))
        """
    )
    assert out == "True\n"


def test_submodules_are_imported_that_only_code_within_the_code_uses(script: Script) -> None:
    """A comprehension, a lambda; and by the name under which the program finds them."""
    said = script(
        """
        import gevent, gevent.queue, logging.handlers, sys, xml.dom.minidom
        from procoro import Pool

        def within(_):
            return [xml.dom.minidom.__name__ for _ in range(1)], (lambda: logging.handlers.__name__)()

        def renamed(_):
            return gevent.queue.Queue.__name__

        def holding(package):
            return lambda _: [package.dom.minidom.__name__ for _ in range(1)]

        with Pool(1) as pool:
            print(pool.apply(within, (1,)))
            print(pool.apply(renamed, (1,)))
            print(pool.apply(holding(xml), (1,)))
        """
    )
    assert said == "(['xml.dom.minidom'], 'logging.handlers')\nQueue\n['xml.dom.minidom']\n"


def test_submodules_that_only_seem_to_be_used_harm_nobody(script: Script) -> None:
    """An import that is blocked, one that fails in a worker, and what is no module at all."""
    said = script(
        """
        import sys, xml.dom.minidom
        from procoro import Pool

        sys.modules["xml.ghost"] = None
        sys.modules["xml.odd"] = object()
        class Named:
            ghost, odd = "ghost", "odd"

        def uses(_):
            return [(xml.dom.minidom.__name__, Named.ghost, Named.odd) for _ in range(1)]

        with Pool(1) as pool:
            print(pool.apply(uses, (1,)))
        """
    )
    assert said == "[('xml.dom.minidom', 'ghost', 'odd')]\n"


def test_new_types_and_parameters_travel(script: Script) -> None:
    """In annotations, by name, in calls, and made in a function."""
    said = script(
        """
        import functools, sys, typing
        from collections.abc import Callable
        from procoro import Pool, Queue

        Metres = typing.NewType("Metres", float)
        P, T, Ts = typing.ParamSpec("P"), typing.TypeVar("T"), typing.TypeVarTuple("Ts")

        def annotated(x: Metres) -> Metres:
            return Metres(2 * x)

        def logged(function: Callable[P, T]) -> Callable[P, T]:
            @functools.wraps(function)
            def call(*args: P.args, **kwargs: P.kwargs) -> T:
                return function(*args, **kwargs)
            return call

        @logged
        def decorated(x: int, *rest: typing.Unpack[Ts]) -> int:
            return x + 1

        def named(_: object) -> tuple:
            return Metres, P, Ts

        def local() -> Callable[[int], object]:
            Feet = typing.NewType("Feet", int)
            def feet(x: Feet) -> object:
                return Feet.__name__, Feet.__module__, Feet.__supertype__, Feet(x)
            return feet

        if sys.version_info >= (3, 12):
            exec("type Number = int | float")
            def of_alias(x: "Number") -> object:
                return Number.__value__
        else:
            def of_alias(x: object) -> object:
                return int | float

        with Pool(1) as pool:
            print(pool.apply(annotated, (2.0,)), pool.apply(decorated, (2,)), pool.apply(of_alias, (1,)))
            print(all(got is own for got, own in zip(pool.apply(named, (0,)), (Metres, P, Ts))))
            print(pool.apply(local(), (3,)))
        """
    )
    assert said == "4.0 3 int | float\nTrue\n('Feet', '__main__', <class 'int'>, 3)\n"


def test_what_a_session_has_shown_last_is_no_modules_own(script: Script) -> None:
    """It stands in `builtins`, as `_`, of this process alone."""
    said = script(
        """
        import builtins, threading
        from procoro import Pool, errors

        lock = builtins._ = threading.Lock()

        def locked(x):
            with lock: return x

        with Pool(1) as pool:
            try:
                pool.apply(locked, (1,))
            except errors.NotPicklable as error:
                print(str(error).partition(":")[0])
        """
    )
    assert said == "function locked, global lock\n"


def test_what_was_imported_by_name_is_the_modules_own(script: Script) -> None:
    """Where a copy would be another thing: the methods of hidden objects, the environment, marks, locks."""
    said = script(
        """
        import dataclasses, os, random as module
        from os import environ
        from random import choice as choose, random, seed
        from logging import _lock as LOCK
        from procoro import Pool

        @dataclasses.dataclass
        class Point:
            x: int
            names: list = dataclasses.field(default_factory=list)
            y: int = 3

        def draw(_): return random(), choose(range(10**9))

        def draw_seeded(_):
            seed(5)
            return module.random()

        def set_in_environment(_):
            environ["PROCORO_TEST"] = "set"
            return os.environ.get("PROCORO_TEST")

        def take(_):
            with LOCK:
                return "taken"

        def without_default(_):
            return [field.name for field in dataclasses.fields(Point) if field.default is dataclasses.MISSING]

        def derived(_):
            @dataclasses.dataclass
            class Derived(Point):
                z: int = 5
            return repr(Derived(1))

        seed(5)
        expected = random()
        with Pool(2) as pool:
            drawn = pool.map(draw, range(100), chunksize=1)
            assert len(set(drawn)) == 100, "two workers drew the same"
            assert pool.apply(draw_seeded, (0,)) == expected
            print(*(pool.apply(one, (0,)) for one in (set_in_environment, take, without_default)))
            print(pool.apply(derived, (0,)))
        """
    )
    assert said == "set taken ['x', 'names']\nderived.<locals>.Derived(x=1, names=[], y=3, z=5)\n"
