"""Whatever a graph holds becomes JSON, as the reference writes it where it can."""

from __future__ import annotations

import collections
import dataclasses
import enum
import ipaddress
import json
import math
import pathlib
import types
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langgraph.types import Command, Interrupt, Send
from pydantic import AnyUrl, BaseModel

from greenroom.core.errors import InvalidRequest
from greenroom.wire.encoding import dumps, loads


class Tag(enum.StrEnum):
    NEW = "new"


class Text(str):
    pass


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Box:
    inside: Any


class Model(BaseModel):
    name: str
    other: Any = None


class Stranger:
    def __repr__(self) -> str:
        return "<a stranger>"


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (
            HumanMessage("hi", id="1"),
            b'{"content":"hi","additional_kwargs":{},"response_metadata":{},"type":"human",'
            b'"name":null,"id":"1"}',
        ),
        (
            AIMessage("hi", id="1"),
            b'{"content":"hi","additional_kwargs":{},"response_metadata":{},"type":"ai",'
            b'"name":null,"id":"1","tool_calls":[],"invalid_tool_calls":[],"usage_metadata":null}',
        ),
        (
            AIMessageChunk(content="tok0 ", id="1"),
            b'{"content":"tok0 ","additional_kwargs":{},"response_metadata":{},'
            b'"type":"AIMessageChunk","name":null,"id":"1","tool_calls":[],'
            b'"invalid_tool_calls":[],"usage_metadata":null,"tool_call_chunks":[],'
            b'"chunk_position":null}',
        ),
    ],
)
def test_messages_have_the_bytes_of_the_reference(message: Any, data: bytes) -> None:
    assert dumps(message) == data


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1, 2), {"x": 1, "y": 2}),
        ({"a", "b"} - {"b"}, ["a"]),
        (frozenset([1]), [1]),
        (collections.deque([1, 2]), [1, 2]),
        ((1, (2,)), [1, [2]]),
        (Colour.RED, "red"),
        (datetime(2026, 11, 22, 6, 40, tzinfo=UTC), "2026-11-22T06:40:00+00:00"),
        (date(2026, 11, 22), "2026-11-22"),
        (timedelta(seconds=1.5), 1.5),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (b"\xff", "/w=="),
        (ValueError("boom"), {"error": "ValueError", "message": "boom"}),
        (Interrupt("v", "i"), {"value": "v", "id": "i", "response_schema": None}),
        (Send("n", {"a": 1}), {"node": "n", "input": {"a": 1}}),
        (Command(goto="n"), {"graph": None, "update": None, "resume": None, "goto": "n"}),
        (Box(Box(1)), {"inside": {"inside": 1}}),
        (Model(name="m", other={1}), {"name": "m", "other": [1]}),
        (Model(name="m", other=Stranger()), {"name": "m", "other": "<a stranger>"}),
        (collections.ChainMap({"a": 1}), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (Stranger(), "<a stranger>"),
        (int, "<class 'int'>"),
        ([math.nan, math.inf], [None, None]),
        ({1: 1, None: 2, (1, 2): 3, Colour.RED: 4}, {"1": 1, "null": 2, "(1, 2)": 3, "red": 4}),
        ({"big": 2**70, "small": -(2**70)}, {"big": 2**70, "small": -(2**70)}),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ({"\ud800": Point(2**70, 1)}, {"\ufffd": {"x": 2**70, "y": 1}}),
        (Box({2: 2**70}), {"inside": {"2": 2**70}}),
        ({Tag.NEW: 1, Text("b"): {Text("c"): 2}}, {"new": 1, "b": {"c": 2}}),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        (ipaddress.ip_interface("::1/64"), "::1/64"),
        (AnyUrl("http://a/b"), "http://a/b"),
        (np.longdouble(1.5), 1.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_does_not_know_becomes_something_that_it_does(value: Any, expected: Any) -> None:
    assert json.loads(dumps(value)) == expected


def test_a_message_with_something_foreign_in_it_keeps_the_rest() -> None:
    tool = ToolMessage("c", tool_call_id="1", artifact=Stranger())
    assert json.loads(dumps(tool))["artifact"] == "<a stranger>"
    half = AIMessage("x\ud800", additional_kwargs={"k": Stranger()})
    assert json.loads(dumps(half))["content"] == "x\ufffd"


def test_a_value_inside_itself_is_named_instead_of_followed() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert json.loads(dumps(loop)) == [1, "<circular>"]
    box = Box(None)
    box.inside = {"box": box}
    assert json.loads(dumps(box)) == {"inside": {"box": "<circular>"}}
    twice = [1]
    assert json.loads(dumps({1: [twice, twice]})) == {"1": [[1], [1]]}


def test_a_value_that_is_too_deep_is_cut_off() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert b"nested too deeply" in dumps(deep)


def test_an_object_that_cannot_even_be_shown_does_no_harm() -> None:
    assert json.loads(dumps([Rude()])) == ["<Rude: RuntimeError while encoding>"]


def test_what_was_encoded_before_is_passed_through_as_it_is() -> None:
    assert dumps({"a": orjson.Fragment(b'{"b" : 1}')}) == b'{"a":{"b" : 1}}'
    assert dumps({1: orjson.Fragment(b"[1]")}) == b'{"1":[1]}'


def test_what_is_no_json_is_refused_in_the_words_of_the_reference() -> None:
    assert loads(b'{"a":1}') == {"a": 1}
    for data in (b"{", b"", b"\xff"):
        with pytest.raises(InvalidRequest, match="Invalid JSON in request body"):
            loads(data)


KEYS = st.integers() | st.none() | st.builds(Text, st.text()) | st.sampled_from(Tag)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.builds(Stranger),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | KEYS, inner)
        | st.builds(Box, inner)
        | st.builds(Model, name=st.text(), other=inner)
        | st.builds(HumanMessage, st.text(), additional_kwargs=st.dictionaries(st.text(), inner))
    ),
    max_leaves=15,
)


@given(anything)
def test_nothing_fails_to_encode(value: Any) -> None:
    json.loads(dumps(value))
