"""Subgraphs in parallel: one researcher for each topic, then a report of what all have found.

Input: ``{"topics": ["Ray", "PostgreSQL", "LangGraph"]}``. Stream it with `stream_subgraphs` to see
each researcher's own steps.
"""

from __future__ import annotations

import operator
from typing import Annotated, NotRequired

from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict


class Research(TypedDict):
    """What one researcher works on; only `findings` is also known to the whole."""

    topic: str
    sources: NotRequired[list[str]]
    findings: NotRequired[Annotated[list[str], operator.add]]


def search(state: Research) -> dict[str, list[str]]:
    return {"sources": [f"{state['topic']} in {place}" for place in ("a book", "a paper")]}


def read(state: Research) -> dict[str, list[str]]:
    return {"findings": [f"{state['topic']}: read {len(state.get('sources', []))} sources."]}


researcher = (
    StateGraph(Research)
    .add_node(search)
    .add_node(read)
    .add_edge(START, "search")
    .add_edge("search", "read")
    .compile()
)


class State(TypedDict):
    topics: list[str]
    # Researchers finish at the same time and each writes here: the reducer says how that adds up.
    findings: NotRequired[Annotated[list[str], operator.add]]
    report: NotRequired[str]


def plan(state: State) -> dict[str, list[str]]:
    return {"topics": list(dict.fromkeys(state["topics"]))}


def assign(state: State) -> list[Send]:
    # How many there will be is known only now, so they cannot be drawn as edges.
    return [Send("researcher", {"topic": topic}) for topic in state["topics"]]


def write(state: State) -> dict[str, str]:
    return {"report": "\n".join(sorted(state.get("findings", [])))}


graph = (
    StateGraph(State)
    .add_node(plan)
    .add_node("researcher", researcher)
    .add_node(write)
    .add_edge(START, "plan")
    .add_conditional_edges("plan", assign, ["researcher"])
    .add_edge("researcher", "write")
    .compile()
)
