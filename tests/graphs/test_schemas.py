"""The JSON schemas of a graph: what a key of its state may be."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, Required

import pytest
from langgraph.graph import START, StateGraph
from langgraph.managed import RemainingSteps
from pydantic import Field
from typing_extensions import ReadOnly, TypedDict

from greenroom.graphs.schemas import schemas


@dataclass(frozen=True)
class PrivateStateAttr:
    """What LangChain's middleware marks its keys with."""


class Opaque:
    """Pydantic makes no schema of it."""


LIST = {"items": {"type": "string"}, "type": "array"}


class Qualified(TypedDict):
    a: str
    n: Annotated[NotRequired[list[str]], operator.add]
    outside: NotRequired[Annotated[list[str], operator.add]]
    required: Required[Annotated[list[str], operator.add]]
    read_only: ReadOnly[list[str]]
    both: Annotated[NotRequired[ReadOnly[list[str]]], "note"]
    nested: Annotated[Annotated[NotRequired[list[str]], PrivateStateAttr()], operator.add]
    described: NotRequired[Annotated[list[str], Field(description="all of them")]]
    steps: RemainingSteps


class WithOpaque(TypedDict):
    a: str
    opaque: Opaque
    reduced: Annotated[Opaque, lambda old, new: new]


def state_schema(state: type) -> dict[str, Any]:
    builder = StateGraph(state).add_node("node", lambda _: {}).add_edge(START, "node")
    found = schemas(builder.compile(name="g"))["state_schema"]
    assert found["title"] == "g_state"
    return {
        name: {key: value for key, value in property.items() if key not in ("title", "default")}
        for name, property in found["properties"].items()
    }


def test_qualified_keys_have_the_schema_of_their_type() -> None:
    names = ("n", "outside", "required", "read_only", "both", "nested")
    assert state_schema(Qualified) == {
        "a": {"type": "string"},
        **dict.fromkeys(names, LIST),
        "described": {**LIST, "description": "all of them"},
    }


def test_a_type_without_a_schema_hides_no_other_one() -> None:
    assert state_schema(WithOpaque) == {"a": {"type": "string"}, "opaque": {}, "reduced": {}}


@pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier")
@pytest.mark.parametrize("kind", ["input_schema", "output_schema"])
def test_input_and_output_of_qualified_keys_have_a_schema(kind: str) -> None:
    builder = StateGraph(Qualified).add_node("node", lambda _: {}).add_edge(START, "node")
    assert {"a", "n", "nested"} <= set(schemas(builder.compile())[kind]["properties"])
