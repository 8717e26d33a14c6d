"""Values that people have in states: each comes back equal from the database, or is refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import re
import threading
import uuid
import zoneinfo
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from PIL import Image
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    field_serializer,
    field_validator,
)
from pydantic.v1 import BaseModel as OldModel
from pydantic.v1 import PrivateAttr as OldPrivateAttr
from typing_extensions import TypedDict

from greenroom.core.errors import NotKept
from greenroom.core.keeping import Keeping
from greenroom.graphs.execution import execute
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool
from greenroom.persistence.serializing import StateSerializer
from tests.graphs.graph_driver import given, order


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Record:
    a: Any
    b: Any = None


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    x: Any = None


class Old(OldModel):
    x: int


class Own:
    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


class Demanding(Exception):
    """Its constructor takes other arguments than it keeps: as of many errors of HTTP clients."""

    def __init__(self, *, status: Any) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Level(enum.IntEnum):
    LOW = 1


class Tag(enum.StrEnum):
    NEW = "new"


class Outer:
    class Colour(enum.Enum):
        RED = "red"

    @dataclasses.dataclass
    class Record:
        a: Any

    class Model(BaseModel):
        a: Any


@dataclasses.dataclass
class Counted:
    """What its constructor does not take."""

    a: int
    b: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.b = self.a + 1


@dataclasses.dataclass
class Doubling:
    """What its constructor changes."""

    a: int

    def __post_init__(self) -> None:
        self.a *= 2


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    a: Any


class Private(BaseModel):
    _p: int = PrivateAttr(default=0)

    def secret(self, *value: int) -> int:
        self._p = sum(value, self._p)
        return self._p


class OldPrivate(OldModel):
    _p: int = OldPrivateAttr(default=0)

    def secret(self, *value: int) -> int:
        self._p = sum(value, self._p)
        return self._p


class Shouting(BaseModel):
    a: str

    @field_validator("a")
    @classmethod
    def louder(cls, value: str) -> str:
        return value + "!"


class Shown(BaseModel):
    """What it shows is not what it has."""

    a: int
    hidden: int = Field(default=0, exclude=True)

    @field_serializer("a")
    def shown(self, value: int) -> str:
        return f"<{value}>"


class Base(BaseModel):
    a: int = 1


class More(Base):
    b: int = 2


class Holding(BaseModel):
    base: Base
    messages: list[BaseMessage] = []


class Numbers(RootModel[list[int]]):
    pass


class Named(NamedTuple):
    a: Any


class Text(str):
    pass


class Bag(dict[str, Any]):
    pass


class Slots:
    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x


class HasDict:
    """Looks like an old model, and is none."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def dict(self) -> Any:
        return {"y": 1}


class Unwilling(collections.UserDict[str, Any]):
    def items(self) -> Any:
        raise NotImplementedError

    def __reduce__(self) -> Any:
        raise NotImplementedError


def private(model: Any) -> Any:
    model.secret(7)
    return model


class Pair(collections.namedtuple("Pair", "left right")):
    pass


NUMPY = {
    "float64": np.float64(1.5),
    "float32": np.float32(1.5),
    "int64": np.int64(3),
    "bool": np.bool_(True),
    "complex128": np.complex128(1 + 2j),
    "datetime64": np.datetime64("2020-01-01T00:00"),
    "timedelta64": np.timedelta64(3, "s"),
    "mean": np.arange(4).mean(),
    "array": np.arange(3),
    "fortran": np.asfortranarray(np.ones((2, 3))),
    "slice of an array": np.arange(10)[::2],
    "scalar array": np.array(5),
    "dates": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "objects": np.array([1, "a", None], dtype=object),
    "fields": np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
}
OTHERS = {
    "frame": pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
    "series": pd.Series([1.5, 2.5], name="s"),
    "timestamp": pd.Timestamp("2020-01-01", tz="UTC"),
    "timedelta of pandas": pd.Timedelta("1s"),
    "missing time": pd.NaT,
    "image": Image.new("RGB", (2, 2), "red"),
    "fraction": fractions.Fraction(1, 3),
    "complex": 1 + 2j,
    "range": range(0, 10, 2),
    "set": {1, "a"},
    "frozen set": frozenset({1}),
    "decimal": decimal.Decimal("1.50"),
    "path": pathlib.Path("a", "b"),
    "pure path": pathlib.PurePosixPath("a/b"),
    "bytes": [b"\0\xff"],
    "slice": slice(1, 5, 2),
    "pattern": re.compile("a", re.IGNORECASE),
    "record": Record(1, Record(2)),
    "record of odd": Record(np.float64(1.5), fractions.Fraction(1, 2)),
    "model": Model(x=1),
    "model of odd": Model(x=np.float64(1.5)),
    "old model": Old(x=1),
    "send": Send("node", {"a": np.float64(1.5)}),
    "enum": Colour.RED,
    "own class": Own(1),
    "pair": Pair(1, 2),
    "exception": ValueError("told", 1),
    "exceptions": {"a": [KeyError("x")]},
    "big": [2**70],
    "datetime": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    "date": dt.date(2020, 1, 1),
    "time": dt.time(1, 2, 3),
    "timedelta": dt.timedelta(days=1, microseconds=3),
    "uuid": uuid.UUID(int=5),
    "deque": collections.deque([1]),
    "keys": {1: 2, None: 3},
    "odd keys": {frozenset({1}): 2},
    "document": Document("t", metadata={"score": np.float64(0.5)}),
    "document with an exception": Document("t", metadata={"why": ValueError("x")}),
    "document with a time": [Document("t", metadata={"at": pd.Timestamp("2020-01-01")})],
    "artifact": ToolMessage("r", tool_call_id="c", artifact=np.arange(2)),
    "artifact frame": ToolMessage("r", tool_call_id="c", artifact=pd.DataFrame({"a": [1]})),
    "artifact of own class": ToolMessage("r", tool_call_id="c", artifact=Own(1)),
}
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
CHANGED_BY_LANGGRAPH = {
    "tuple": ((), (1, (2,)), [("a", 1)]),
    "tuples in a set": {(1, (2, 3))},
    "deque with an end": collections.deque([1], maxlen=3),
    "named": Named((1, 2)),
    "int enum": Level.LOW,
    "string enum": Tag.NEW,
    "enum as key": {Tag.NEW: 1, Level.LOW: 2},
    "dates as keys": {dt.date(2020, 1, 1): 1},
    "ids as keys": {"a": {uuid.UUID(int=1): 1}},
    "tuples as keys": {(1, 2): {"a": (3,)}},
    "inner enum": Outer.Colour.RED,
    "inner record": Outer.Record((1,)),
    "inner model": Outer.Model(a=1),
    "counted": Counted(1),
    "doubling": Doubling(2),
    "slotted": Slotted(np.float64(1.5)),
    "private": private(Private()),
    "old private": private(OldPrivate()),
    "old model of a tuple": Old.construct(x=(1,)),
    "shouting": Shouting(a="x"),
    "shown": Shown(a=1, hidden=2),
    "a subclass in a model": Holding(base=More(b=5), messages=[HumanMessage("x", id="1")]),
    "model of a record": Model(x=Record(1)),
    "model of a tuple": Model(x=(1, {2})),
    "model of messages": Model(x=[HumanMessage("x", id="1")]),
    "root model": Numbers([1]),
    "text": Text("a"),
    "bag": [Bag(a=1)],
    "counter": collections.Counter("aab"),
    "default dict": collections.defaultdict(list, a=[1]),
    "ordered": collections.OrderedDict(a=1),
    "slots": Slots((1,)),
    "has dict": HasDict(1),
    "zone": dt.datetime(2020, 7, 1, tzinfo=BERLIN),
    "second two o'clock": dt.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
    "named offset": dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2), "X")),
    "demanding": Demanding(status=500),
    "masked": np.ma.array([1, 2], mask=[False, True]),
    "record array": np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "string of numpy": np.str_("a"),
    "artifact that is a model": ToolMessage("r", tool_call_id="c", artifact=Model(x=(1,))),
    "document with a record": Document("t", metadata={"at": (1, 2), "r": Record(1)}),
}
VALUES = NUMPY | OTHERS | CHANGED_BY_LANGGRAPH


def same(left: Any, right: Any) -> bool:
    """Whether two values are of one class and equal, also where ``==`` does not say that."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ma.MaskedArray):
        return repr(left) == repr(right)
    if isinstance(left, np.ndarray):
        return (
            left.dtype == right.dtype and left.shape == right.shape and bool((left == right).all())
        )
    if isinstance(left, pd.DataFrame | pd.Series):
        return left.equals(right)
    if left is pd.NaT:
        return right is pd.NaT
    if isinstance(left, BaseException):
        return same(left.args, right.args) and same(vars(left), vars(right))
    if isinstance(left, list | tuple | collections.deque):
        ends = [getattr(each, "maxlen", None) for each in (left, right)]
        return len(set(ends)) == 1 and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same([*left], [*right]) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, set):
        return left == right and set(map(type, left)) == set(map(type, right))
    if isinstance(left, dt.datetime):
        return repr(left) == repr(right)
    if isinstance(left, BaseModel):
        private = [each.__pydantic_private__ for each in (left, right)]
        return same(vars(left), vars(right)) and same(*private)
    if isinstance(left, OldPrivate):
        return left.secret() == right.secret()
    if isinstance(left, Old | Record | Outer.Record | HasDict):
        return same(vars(left), vars(right))
    if isinstance(left, Slots):
        return same(left.x, right.x)
    if isinstance(left, Send):
        return left.node == right.node and same(left.arg, right.arg)
    if isinstance(left, Image.Image):
        return left.tobytes() == right.tobytes()
    return bool(left == right)


class State(TypedDict, total=False):
    value: Any
    after: Any


class Typed(TypedDict, total=False):
    value: Record | None
    after: Any


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_comes_back_equal(value: Any) -> None:
    serde = StateSerializer()
    assert same(serde.loads_typed(serde.dumps_typed(value)), value)
    inside = serde.loads_typed(serde.dumps_typed({"docs": [value]}))["docs"][0]
    assert same(inside, value)


async def test_all_values_come_back_from_the_database(pool: Pool) -> None:
    async def node(state: State) -> State:
        return {"value": VALUES}

    async def reads(state: State) -> State:
        assert all(same(state["value"][name], VALUES[name]) for name in VALUES)
        return {"after": True}

    builder = StateGraph(State)
    builder.add_sequence([("node", node), ("reads", reads)])
    builder.add_edge(START, "node")
    graph = builder.compile(checkpointer=PooledSaver(pool))
    config: Any = {"configurable": {"thread_id": "t"}}
    await graph.ainvoke({"value": None}, config)
    found = (await graph.aget_state(config)).values
    assert found["after"]
    assert [name for name in VALUES if not same(found["value"][name], VALUES[name])] == []


def test_an_exception_that_cannot_be_read_back_is_kept_as_langgraph_does() -> None:
    serde = StateSerializer()
    kept = serde.dumps_typed({"errors": [Demanding(status=threading.Lock())]})
    (error,) = serde.loads_typed(kept)["errors"]
    assert error.startswith("Demanding('status <unlocked _thread.lock")


def test_what_has_no_class_that_can_be_found_is_kept_as_langgraph_does() -> None:
    class Local(BaseModel):
        a: int

    serde = StateSerializer()
    for value in (Local(a=1), collections.defaultdict(lambda: 0, a=1)):
        assert serde.loads_typed(serde.dumps_typed([value])) == [{"a": 1}]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (threading.Lock(), "has a _thread.lock, which cannot be stored"),
        ({"a": [1, {"b": threading.Lock()}]}, "has a _thread.lock at ['a'][1]['b'], which"),
        ([Record(1, Own(threading.Lock()))], "has a _thread.lock at [0].b.x, which"),
        ({"call": lambda: 1}, "has a function at ['call'], which cannot be stored"),
        ((each for each in ()), "has a generator, which cannot be stored"),
        (Document("t", metadata={"x": threading.Lock()}), "has a _thread.lock at .metadata['x']"),
        ([ValueError("x"), threading.Lock()], "has a _thread.lock at [1]"),
        ({"a": threading}, "has a module at ['a'], which cannot be stored"),
        ({"a": Unwilling()}, "Unwilling at ['a'], which cannot be stored"),
    ],
)
def test_what_cannot_be_kept_is_named_with_its_place(value: Any, told: str) -> None:
    with pytest.raises(NotKept) as refused:
        StateSerializer().dumps_typed(value)
    assert told in refused.value.message


def test_a_value_whose_class_is_gone_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = StateSerializer().dumps_typed(Own(1))
    monkeypatch.delitem(globals(), "Own")
    with pytest.raises(NotKept, match=r"cannot be read .AttributeError.*install what is missing"):
        StateSerializer().loads_typed(kept)


# --- strict ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.float64(1.5), "has a numpy.float64, which LANGGRAPH_STRICT_MSGPACK does not allow"),
        ({"a": [Own(1)]}, f"has a {__name__}.Own at ['a'][0], which LANGGRAPH_STRICT_MSGPACK"),
        ({"a": Record(1)}, f"has a {__name__}.Record, which LANGGRAPH_STRICT_MSGPACK does not"),
        ([pd.Timestamp("2020-01-01")], "Timestamp at [0], which LANGGRAPH_STRICT_MSGPACK"),
    ],
)
def test_strictness_refuses_what_would_not_be_read(value: Any, told: str) -> None:
    with pytest.raises(NotKept) as refused:
        StateSerializer(strict=True).dumps_typed(value)
    assert told in refused.value.message


def test_strictness_keeps_what_is_allowed_and_pickles_nothing() -> None:
    strict = StateSerializer(strict=True)
    for value in ({"a": {1, (2,)}}, Document("t"), [dt.date(2020, 1, 1)], np.arange(3), [(1, ())]):
        assert same(strict.loads_typed(strict.dumps_typed(value)), value)
    allowed = strict.with_msgpack_allowlist([Record])
    assert allowed.loads_typed(allowed.dumps_typed([Record(1)])) == [Record(1)]
    assert strict.loads_typed(strict.dumps_typed([ValueError("x")])) == ["ValueError('x')"]
    pickled = StateSerializer().dumps_typed(np.float64(1.5))
    with pytest.raises(NotKept, match="was pickled"):
        strict.loads_typed(pickled)


def named(*types: type) -> frozenset[tuple[str, ...]]:
    return frozenset((each.__module__, each.__name__) for each in types)


def test_a_list_of_types_keeps_these_and_refuses_others() -> None:
    serde = StateSerializer(Keeping(types=named(Record)))
    for value in ([Record(1)], Document("t"), {"a": {1}}):
        assert same(serde.loads_typed(serde.dumps_typed(value)), value)
    for value in (Model(x=1), np.float64(1.5), Own(1)):
        with pytest.raises(NotKept, match=r"'checkpointer.serde' of langgraph.json does not allow"):
            serde.dumps_typed(value)


@pytest.mark.parametrize("strict", [True, False])
def test_what_the_file_says_goes_before_the_variable(strict: bool) -> None:
    only_known = StateSerializer(Keeping(types=frozenset()), strict=strict)
    with pytest.raises(NotKept, match=r"Record, which 'checkpointer.serde'"):
        only_known.dumps_typed(Record(1))
    everything = StateSerializer(Keeping(types=True), strict=strict)
    for value in (Record(1), np.float64(1.5)):
        assert same(everything.loads_typed(everything.dumps_typed(value)), value)


def test_nothing_is_pickled_or_read_from_a_pickle_where_the_file_forbids_it() -> None:
    pickled = StateSerializer().dumps_typed(np.float64(1.5))
    serde = StateSerializer(Keeping(pickle=False))
    assert serde.loads_typed(serde.dumps_typed(Record(1))) == Record(1)
    with pytest.raises(NotKept, match=r"numpy.float64 at \['a'\], which 'checkpointer.serde'"):
        serde.dumps_typed({"a": np.float64(1.5)})
    with pytest.raises(NotKept, match=r"was pickled, and 'checkpointer.serde' of langgraph.json"):
        serde.loads_typed(pickled)
    both = StateSerializer(Keeping(types=named(Record), pickle=True))
    assert both.loads_typed(both.dumps_typed(np.float64(1.5))) == 1.5


async def test_the_types_that_a_graph_allows_reach_the_saver_of_a_run(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def node(state: State) -> State:
        return {"value": Record(1)}

    async def reads(state: State) -> State:
        return {"after": type(state["value"]).__name__}

    # The variable is read when LangGraph is imported.
    monkeypatch.setattr("langgraph._internal._serde.STRICT_MSGPACK_ENABLED", True)
    monkeypatch.setattr("langgraph.graph.state._serde.STRICT_MSGPACK_ENABLED", True)
    saver = PooledSaver(pool, serde=StateSerializer(strict=True))
    outcomes: list[Any] = []
    for schema in (State, Typed):
        builder = StateGraph(schema)
        builder.add_sequence([("node", node), ("reads", reads)])
        builder.add_edge(START, "node")
        todo = order(input={"value": None}, interrupt_before=["reads"])
        graph = given(builder.compile())
        more = order(thread_id=todo.thread_id, input=None)
        for each in (todo, more):
            outcome = await execute(
                graph, each, emit=lambda *_: None, checkpointer=saver, store=None
            )
        outcomes.append(outcome)
    refused, kept = outcomes
    assert refused.error is not None
    assert b"Record, which LANGGRAPH_STRICT_MSGPACK does not allow" in refused.error
    assert kept.error is None
    assert b'"after":"Record"' in kept.output


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_a_node_that_returns_what_cannot_be_kept_ends_the_run(
    pool: Pool, durability: str
) -> None:
    executed: list[str] = []

    async def before(state: State) -> State:
        return {"after": "kept"}

    async def node(state: State) -> State:
        return {"value": {"client": threading.Lock()}}

    async def later(state: State) -> State:
        executed.append("later")
        return {"value": None}

    builder = StateGraph(State)
    builder.add_sequence([("before", before), ("node", node), ("later", later)])
    builder.add_edge(START, "before")
    todo = order(input={"value": 1}, durability=durability)
    outcome = await execute(
        given(builder.compile()),
        todo,
        emit=lambda *_: None,
        checkpointer=PooledSaver(pool),
        store=None,
    )
    if durability == "exit":  # only the last state is kept, and that can be
        assert outcome.error is None
        return
    assert outcome.error is not None
    assert b'"error":"NotKept"' in outcome.error
    assert b"The value of 'value' has a _thread.lock at ['client']" in outcome.error
    assert executed == []
    assert outcome.values == b'{"value":1,"after":"kept"}'
