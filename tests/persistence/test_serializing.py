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
from typing import Any

import numpy as np
import pandas as pd
import pytest
from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from PIL import Image
from pydantic import BaseModel, ConfigDict
from pydantic.v1 import BaseModel as OldModel
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


class Unreadable(Exception):
    """Can be pickled, and not be read: as many errors of HTTP clients."""

    def __init__(self, *, status: int) -> None:
        super().__init__(f"status {status}")


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
VALUES = NUMPY | OTHERS


def same(left: Any, right: Any) -> bool:
    """Whether two values are of one class and equal, also where ``==`` does not say that."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return (
            left.dtype == right.dtype and left.shape == right.shape and bool((left == right).all())
        )
    if isinstance(left, pd.DataFrame | pd.Series):
        return left.equals(right)
    if left is pd.NaT:
        return right is pd.NaT
    if isinstance(left, BaseException):
        return same(left.args, right.args)
    if isinstance(left, list | tuple | collections.deque):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, Document | ToolMessage | Model | Record):
        return same(vars(left), vars(right))
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
    kept = serde.dumps_typed({"errors": [Unreadable(status=500)]})
    assert serde.loads_typed(kept) == {"errors": ["Unreadable('status 500')"]}


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
    for value in ({"a": {1}}, Document("t"), [dt.date(2020, 1, 1)], np.arange(3)):
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
