"""Graphs that the probes lack; both servers serve them beside those."""

from __future__ import annotations

import asyncio
from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.store.base import BaseStore
from langgraph.types import interrupt
from typing_extensions import TypedDict


class StoreState(TypedDict, total=False):
    put: dict[str, Any]
    search: dict[str, Any]
    found: list[Any]


async def remember(state: StoreState, *, store: BaseStore):
    """Puts an item, and searches; ``namespace`` is a list in both."""
    if put := state.get("put"):
        await store.aput(tuple(put["namespace"]), put["key"], put["value"])
    if not (search := dict(state.get("search") or {})):
        return {"found": []}
    found = await store.asearch(tuple(search.pop("namespace")), **search)
    return {"found": [[item.key, item.value, item.score] for item in found]}


_r = StateGraph(StoreState)
_r.add_node("remember", remember)
_r.add_edge(START, "remember")
remembering = _r.compile()


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
