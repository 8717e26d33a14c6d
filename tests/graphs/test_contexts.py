"""A run's context and the schema of its graph: unknown keys are dropped, as by the reference."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from greenroom.graphs.contexts import fitting, made
from tests.graphs.graph_driver import given, order, run


@dataclass
class Dc:
    name: str = "ann"
    n: int = 3


@dataclass
class Needy:
    name: str
    n: int = 3
    seed: InitVar[int] = 0


@pydantic_dataclass
class Pydantic:
    name: str = "ann"
    n: int = 3


class Model(BaseModel):
    name: str = "ann"
    n: int = 3


class Forbidding(Model):
    model_config = ConfigDict(extra="forbid")


class Open(Model):
    model_config = ConfigDict(extra="allow")


class Aliased(BaseModel):
    name: str = Field("ann", alias="userName")
    n: int = Field(3, validation_alias=AliasChoices("number", "count"))


class Base(TypedDict):
    name: str


class Td(Base, total=False):
    n: int


class State(TypedDict, total=False):
    out: Any


def graph(schema: Any) -> Any:
    def say(state: State, runtime: Runtime[Any]) -> State:
        return {"out": runtime.context}

    builder = StateGraph(State, context_schema=schema)
    return given(builder.add_node(say).add_edge(START, "say").compile())


async def context_of(schema: Any, **sent: Any) -> Any:
    """What a node gets as its context; what the run said instead of it."""
    outcome = await run(graph(schema), order(input={}, **sent))
    return outcome.output.get("out", outcome.output)


@pytest.mark.parametrize("schema", [Dc, Pydantic, Model, Forbidding, Td])
@pytest.mark.parametrize("key", ["context", "config"])
async def test_a_key_that_the_schema_does_not_have_is_dropped(schema: Any, key: str) -> None:
    """The edge copies ``configurable`` to ``context``."""
    sent: dict[str, Any] = {"context": {"name": "bo", "n": 1, "extra": 1}}
    if key == "config":
        sent["config"] = {"configurable": sent["context"]}
    assert await context_of(schema, **sent) == {"name": "bo", "n": 1}


@pytest.mark.parametrize("schema", [Dc, Model])
async def test_defaults_stay(schema: Any) -> None:
    assert await context_of(schema, context={"extra": 1}) == {"name": "ann", "n": 3}
    assert await context_of(schema, context={}) == {"name": "ann", "n": 3}


def test_a_schema_that_knows_all_keys_keeps_them() -> None:
    for schema in (Open, None, dict):
        assert fitting(schema, {"extra": 1}) == {"extra": 1}
    assert fitting(Dc, None) is None
    assert fitting(Dc, Dc()) == Dc()


def test_aliases_are_keys_too() -> None:
    assert fitting(Aliased, {"userName": "bo", "count": 1, "x": 2}) == {
        "userName": "bo",
        "count": 1,
    }
    assert made(Aliased, {"userName": "bo", "number": 4, "x": 2}).n == 4
    assert made(Needy, {"name": "bo", "seed": 1, "x": 2}) == Needy("bo")


async def test_a_key_that_a_dataclass_needs_is_named() -> None:
    outcome = await run(graph(Needy), order(input={}, context={"n": 1}))
    assert outcome.output["__error__"] == {
        "error": "TypeError",
        "message": "The run's context lacks 'name', which Needy needs. Send it in 'context'.",
    }


@pytest.mark.parametrize(
    "sent", [{"input": {}, "context": {"n": "x"}}, {"input": {"n": "x"}}], ids=["context", "input"]
)
async def test_a_value_of_the_wrong_type_ends_the_run_as_pydantic_says_it(
    sent: dict[str, Any],
) -> None:
    builder = StateGraph(Model, context_schema=Model).add_node("node", lambda _: {})
    outcome = await run(given(builder.add_edge(START, "node").compile()), order(**sent))
    error = outcome.output["__error__"]
    assert error["error"] == "ValidationError"
    assert error["message"].startswith("1 validation error for Model\nn\n  Input should be a valid")
