"""A thread's history is read as LangGraph's own saver reads it, byte for byte."""

from __future__ import annotations

import operator
import threading
from typing import Annotated, Any

import pytest
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict

from greenroom.core.ports import HistoryQuestion
from greenroom.graphs.state import answer
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool
from greenroom.persistence.fenced_saver import FencedSaver
from greenroom.persistence.saving import LARGE
from greenroom.persistence.serializing import StateSerializer
from tests.graphs.graph_driver import given
from tests.persistence.test_checkpoints import a_run

TURNS = 40


class State(TypedDict, total=False):
    i: int
    messages: Annotated[list[AnyMessage], add_messages]
    parts: Annotated[list[str], operator.add]
    large: list[str]
    raw: bytes
    nothing: None


async def turn(state: State) -> State:
    i = state.get("i", 0) + 1
    changed: State = {"i": i, "messages": [HumanMessage(f"turn {i}", id=f"m{i}")], "nothing": None}
    if i == TURNS // 2:
        changed |= {"large": ["x" * 1024] * (LARGE // 1024 + 1), "raw": b"\0\xff"}
    return changed


async def part(state: dict[str, Any]) -> State:
    return {"parts": [f"part {state['n']}"]}


async def ask(state: State) -> State:
    return {"parts": [interrupt("go on?")]}


def after_turn(state: State) -> Any:
    if state.get("i", 0) < TURNS:
        return "turn"
    return [Send("part", {"n": n}) for n in range(3)]


def graph() -> Any:
    builder: Any = StateGraph(State)
    builder.add_node("turn", turn)
    builder.add_node("part", part)
    builder.add_node("ask", ask)
    builder.add_edge(START, "turn")
    builder.add_conditional_edges("turn", after_turn, ["turn", "part"])
    builder.add_edge("part", "ask")
    builder.add_edge("ask", END)
    return builder.compile()


@pytest.mark.parametrize("limit", [1, 1000])
async def test_our_history_is_that_of_langgraphs_own_saver(pool: Pool, limit: int) -> None:
    saver = FencedSaver(pool, run_id=await a_run(pool), attempt=1, thread_id="t", is_first=True)
    made = graph().copy(update={"checkpointer": saver})
    config: Any = {"configurable": {"thread_id": "t"}, "recursion_limit": 2 * TURNS}
    await made.ainvoke({"i": 0, "messages": []}, config)
    await saver.all_written()
    question = HistoryQuestion(
        graph_id="given", thread_id="t", limit=limit, before=None, metadata=None, checkpoint=None
    )
    stock: Any = AsyncPostgresSaver(pool, serde=StateSerializer())  # type: ignore[arg-type]
    ours = await answer(given(graph()), question, checkpointer=PooledSaver(pool), store=None)
    theirs = await answer(given(graph()), question, checkpointer=stock, store=None)
    assert ours == theirs
    assert ours.count(b'"parent_checkpoint_id"') == min(limit, TURNS + 3)


async def test_small_states_need_no_thread_and_large_ones_do_not_hold_up_the_loop(
    pool: Pool,
) -> None:
    class Noting(StateSerializer):
        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            read_in.add((threading.current_thread(), len(data[1] or b"") > LARGE))
            return super().loads_typed(data)

    read_in: set[tuple[threading.Thread, bool]] = set()
    saver = FencedSaver(pool, run_id=await a_run(pool), attempt=1, thread_id="t", is_first=True)
    made = graph().copy(update={"checkpointer": saver})
    config: Any = {"configurable": {"thread_id": "t"}, "recursion_limit": 2 * TURNS}
    await made.ainvoke({"i": 0, "messages": []}, config)
    await saver.all_written()
    reader = PooledSaver(pool, serde=Noting())
    here = threading.current_thread()
    newest_first = [each async for each in reader.alist(config)]
    assert {thread is here for thread, is_large in read_in if is_large} == {False}
    read_in.clear()
    before = newest_first[-5].config
    assert len([each async for each in reader.alist(config, before=before)]) == 4
    assert {thread for thread, _ in read_in} == {here}
