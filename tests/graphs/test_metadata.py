"""The metadata that a node sees, and those of states."""

from __future__ import annotations

import json
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

from greenroom.core.ports import HistoryQuestion, StateQuestion
from greenroom.graphs.instructions import instructions
from greenroom.graphs.state import answer
from tests.graphs.graph_driver import given, order, run


class State(TypedDict, total=False):
    seen: Any


def ask(state: State) -> State:
    interrupt("?")
    return {}


def nested() -> Any:
    inner = StateGraph(State)
    inner.add_node("ask", ask)
    inner.add_edge(START, "ask")
    outer = StateGraph(State)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    return outer.compile()


async def asked(saver: Any, question: Any, graph: Any) -> Any:
    return json.loads(await answer(given(graph), question, checkpointer=saver, store=None))


async def test_a_node_sees_the_runs_metadata_and_the_servers_keys_are_the_servers() -> None:
    async def node(state: State, config: RunnableConfig) -> State:
        return {"seen": config.get("metadata")}

    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    forged = {
        "langgraph_auth_user": "f",
        "langgraph_auth_user_id": "f",
        "__pregel_x": 1,
        "thread_id": "f",
        "run_id": "f",
        "checkpoint_ns": "f",
        "run_attempt": 77,
    }
    todo = order(input={}, config={"metadata": {"team": "blue", **forged}})
    seen = (await run(given(builder.compile()), todo)).output["seen"]
    assert (seen["team"], seen["run_attempt"]) == ("blue", 1)
    assert (seen["thread_id"], seen["run_id"]) == (todo.thread_id, todo.run_id)
    for key in ("langgraph_auth_user", "langgraph_auth_user_id", "__pregel_x", "checkpoint_ns"):
        assert key not in instructions(todo).config.get("metadata", {})


async def test_a_state_names_its_thread_and_is_found_by_metadata() -> None:
    saver, graph = InMemorySaver(), nested()
    todo = order(input={}, config={"metadata": {"team": "blue"}})
    await run(given(graph), todo, saver)
    ids = {"graph_id": "given", "thread_id": todo.thread_id}
    state = await asked(saver, StateQuestion(**ids, subgraphs=True), graph)
    assert state["metadata"]["thread_id"] == todo.thread_id
    assert "checkpoint_ns" not in state["metadata"]
    inner = state["tasks"][0]["state"]
    assert inner["metadata"]["thread_id"] == todo.thread_id
    assert inner["metadata"]["checkpoint_ns"] == inner["checkpoint"]["checkpoint_ns"] != ""
    for metadata, found in [
        ({"team": "blue"}, 2),
        ({"team": "blue", "thread_id": todo.thread_id}, 2),
        ({"thread_id": todo.thread_id}, 2),
        ({"thread_id": "another"}, 0),
        ({"team": "red"}, 0),
    ]:
        history = await asked(saver, HistoryQuestion(**ids, limit=10, metadata=metadata), graph)
        assert len(history) == found, metadata
        assert all(each["metadata"]["thread_id"] == todo.thread_id for each in history)
