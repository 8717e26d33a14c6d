"""When nodes begin and end, as callbacks tell it."""

from __future__ import annotations

import asyncio
from typing import TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt

from greenroom.core import nodes
from greenroom.graphs.nodes import NodeNotes, noting_nodes


class State(TypedDict, total=False):
    x: int


CONFIG = {"configurable": {"thread_id": "t"}}


async def noted(builder: StateGraph) -> NodeNotes:
    notes = NodeNotes()
    with noting_nodes(notes):
        await builder.compile(checkpointer=InMemorySaver()).ainvoke({"x": 1}, CONFIG)
    return notes


async def test_each_node_has_its_step_and_one_of_a_subgraph_its_namespace() -> None:
    async def inner(state: State) -> State:
        return {"x": 2}

    def inner_sync(state: State) -> State:
        return {"x": 3}

    child = StateGraph(State).add_node(inner).add_node(inner_sync)
    child.add_edge(START, "inner").add_edge("inner", "inner_sync")
    parent = StateGraph(State).add_node("child", child.compile()).add_edge(START, "child")
    notes = await noted(parent)
    assert notes.running == []
    found = {note.name: note for note in notes.all}
    assert [note.name for note in notes.all] == ["inner", "inner_sync", "child"]
    assert found["child"].namespace == ""
    assert found["inner"].namespace == f"child:{found['child'].task_id}"
    assert [found[name].step for name in ("inner", "inner_sync")] == [1, 2]
    assert found["child"].start_ms <= found["inner"].start_ms
    assert found["inner_sync"].end_ms <= found["child"].end_ms


async def test_an_error_is_noted_and_an_interrupt_is_none() -> None:
    async def ask(state: State) -> State:
        interrupt("why?")
        return {}

    assert [note.error for note in (await noted(StateGraph(State).add_node(ask).add_edge(START, "ask"))).all] == [None]  # fmt: skip # noqa: E501

    async def boom(state: State) -> State:
        raise ValueError("no\x00way")

    notes = NodeNotes()
    graph = StateGraph(State).add_node(boom).add_edge(START, "boom").compile()
    with noting_nodes(notes), pytest.raises(ValueError, match="way"):
        await graph.ainvoke({})
    assert [note.error for note in notes.all] == ["ValueError: noway"]


async def test_what_runs_and_what_was_cancelled_has_no_end() -> None:
    begun = asyncio.Event()

    async def hang(state: State) -> State:
        begun.set()
        await asyncio.Event().wait()
        return {}

    notes = NodeNotes()
    graph = StateGraph(State).add_node(hang).add_edge(START, "hang").compile()
    with noting_nodes(notes):
        running = asyncio.create_task(graph.ainvoke({}))
    await asyncio.wait_for(begun.wait(), 10)
    assert [note.name for note in notes.running] == ["hang"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [(note.name, note.end_ms) for note in notes.all] == [("hang", None)]


async def test_of_many_nodes_the_last_ones_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.graphs.nodes.MOST_NOTED", 5)

    async def one(state: State) -> State:
        return {}

    many = StateGraph(State).add_node(one)
    many.add_conditional_edges(START, lambda _: [Send("one", {"x": n}) for n in range(20)])
    assert len((await noted(many)).all) == 5
    assert nodes.MOST_NOTED > 5
