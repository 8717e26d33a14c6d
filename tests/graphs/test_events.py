"""What events tell beside their data: cached results, ids of messages, errors."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from tests.graphs.graph_driver import given, order, run


class Parallel(TypedDict, total=False):
    p1: Any
    p2: Any
    p3: Any


class Messages(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


async def test_a_result_of_before_the_answer_is_marked_as_cached() -> None:
    builder = StateGraph(Parallel)
    builder.add_node("p1", lambda state: {"p1": interrupt("1")})
    builder.add_node("p2", lambda state: {"p2": interrupt("2")})
    builder.add_node("p3", lambda state: {"p3": 3})
    for name in ("p1", "p2", "p3"):
        builder.add_edge(START, name)
    saver, loaded = InMemorySaver(), given(builder.compile())
    first = order(input={"p1": None}, stream_mode=["updates"])
    driven = await run(loaded, first, saver)
    assert {"p3": {"p3": 3}} in driven.of("updates")
    ids = {each["value"]: each["id"] for each in driven.output["__interrupt__"]}
    answered = order(
        thread_id=first.thread_id, command={"resume": {ids["1"]: "A"}}, stream_mode=["updates"]
    )
    told = (await run(loaded, answered, saver)).of("updates")
    assert told[0] == {"p3": {"p3": 3}, "__metadata__": {"cached": True}}
    assert {"p1": {"p1": "A"}} in told


@tool
def look() -> str:
    """Looks."""
    return "seen"


CALL = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "c1", "type": "tool_call"}])


@pytest.mark.parametrize(
    "node",
    [
        lambda state: {"messages": [ToolMessage("r", tool_call_id="c1")]},
        lambda state: {"messages": ToolMessage("r", tool_call_id="c1")},
        lambda state: Command(update={"messages": [ToolMessage("r", tool_call_id="c1")]}),
        ToolNode([look]),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
async def test_events_have_the_id_that_a_message_gets(node: Any, nested: bool) -> None:
    builder = StateGraph(Messages)
    builder.add_node("tools", node)
    builder.add_edge(START, "tools")
    if nested:
        outer = StateGraph(Messages)
        outer.add_node("inner", builder.compile())
        outer.add_edge(START, "inner")
        builder = outer
    todo = order(input={"messages": [CALL.model_dump()]}, stream_mode=["events", "values"])
    driven = await run(given(builder.compile()), todo)
    expected = driven.output["messages"][-1]["id"]
    ids = [
        message["id"]
        for event in driven.of("events")
        for message in _messages(event["data"])
        if message.get("type") == "tool"
    ]
    assert len(ids) >= 2
    assert set(ids) == {expected}


async def test_the_messages_of_a_prompt_within_a_node_get_no_ids() -> None:
    system = SystemMessage("constant")
    prompt = ChatPromptTemplate([system])

    async def node(state: Messages, config: RunnableConfig) -> Any:
        await prompt.ainvoke({}, config)
        return {"messages": []}

    builder = StateGraph(Messages)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    todo = order(input={"messages": []}, stream_mode=["events"])
    assert "constant" in str((await run(given(builder.compile()), todo)).events)
    assert system.id is None


def _messages(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        if "tool_call_id" in value:
            return [value]
        return [found for each in value.values() for found in _messages(each)]
    if isinstance(value, list):
        return [found for each in value for found in _messages(each)]
    return []


async def test_notes_and_causes_stay_on_the_server() -> None:
    async def node(state: Messages) -> Any:
        error = ValueError("told")
        error.add_note("a note with a secret")
        raise error from KeyError("a cause with a secret")

    builder = StateGraph(Messages)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    driven = await run(given(builder.compile()), order(input={"messages": []}))
    assert driven.output == {"__error__": {"error": "ValueError", "message": "told"}}
