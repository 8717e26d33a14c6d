"""Graphs that the probes lack; both servers serve them beside those."""

from __future__ import annotations

import asyncio
from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict


class HesitantState(TypedDict, total=False):
    answer: Any
    seconds: float
    done: bool


async def ask(state: HesitantState):
    return {"answer": interrupt("sure?")}


async def ponder(state: HesitantState):
    await asyncio.sleep(state.get("seconds", 0))
    return {"done": True}


_b = StateGraph(HesitantState)
_b.add_node("ask", ask)
_b.add_node("ponder", ponder)
_b.add_edge(START, "ask")
_b.add_edge("ask", "ponder")
hesitant = _b.compile()
