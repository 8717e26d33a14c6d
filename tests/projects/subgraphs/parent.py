"""Subgraphs that keep state of their own, and a saver and a store that the server replaces."""

import operator
from typing import Annotated

from langgraph.checkpoint.memory import MemorySaver
from langgraph.graph import START, StateGraph
from langgraph.store.memory import InMemoryStore
from typing_extensions import TypedDict


class Child(TypedDict, total=False):
    visits: Annotated[int, operator.add]
    seen: int


class Parent(TypedDict, total=False):
    seen: int


def visit(state: Child) -> Child:
    return {"visits": 1, "seen": state.get("visits", 0) + 1}


child = (
    StateGraph(Child).add_node(visit).add_edge(START, "visit").compile(checkpointer=True)
)
parent = (
    StateGraph(Parent)
    .add_node("child", child)
    .add_edge(START, "child")
    .compile(checkpointer=MemorySaver(), store=InMemoryStore())
)
