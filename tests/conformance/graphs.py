"""Graphs that the probes lack; both servers serve them beside those."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
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


class SeenState(TypedDict, total=False):
    seconds: float
    out: dict[str, Any]


class SeenContext(TypedDict, total=False):
    model: str
    temp: float
    nested: dict[str, Any]
    extra: str
    sticky: int


_NOT_SHOWN = ("run_id", "thread_id", "graph_id", "assistant_id", "user_id")


async def look(state: SeenState, config: RunnableConfig, runtime: Runtime[SeenContext]):
    """What a node sees of its assistant's and its run's config."""
    await asyncio.sleep(state.get("seconds", 0))
    given = config.get("configurable") or {}
    return {
        "out": {
            "configurable": {
                key: value
                for key, value in given.items()
                if not key.startswith(("__", "langgraph_", "checkpoint_")) and key not in _NOT_SHOWN
            },
            "context": runtime.context,
            "tags": config.get("tags"),
            "recursion_limit": config.get("recursion_limit"),
            "metadata": {
                key: value
                for key, value in (config.get("metadata") or {}).items()
                if key in ("of_graph", "of_assistant", "of_thread", "of_config", "of_run", "all")
            },
        }
    }


_c = StateGraph(SeenState, context_schema=SeenContext)
_c.add_node("look", look)
_c.add_edge(START, "look")
seen = _c.compile()
bound = _c.compile().with_config(
    {
        "configurable": {"model": "graph", "extra": "graph"},
        "tags": ["graph"],
        "metadata": {"of_graph": 1, "all": "graph"},
        "recursion_limit": 11,
    }
)
