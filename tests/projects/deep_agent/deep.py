"""What deepagents compiles to: todos, files with a reducer, private keys, subagents."""

import operator
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph, add_messages
from typing_extensions import Required, TypedDict


@dataclass(frozen=True)
class PrivateStateAttr:
    pass


def merged(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    return {name: data for name, data in {**(old or {}), **new}.items() if data is not None}


class DeepState(TypedDict):
    messages: Required[Annotated[list[AnyMessage], add_messages]]
    todos: NotRequired[list[dict[str, str]]]
    files: Annotated[NotRequired[dict[str, Any]], merged]
    notes: Annotated[NotRequired[list[str]], operator.add]
    summary: NotRequired[Annotated[str, PrivateStateAttr()]]


def plan(state: DeepState):
    return {"todos": [{"content": "look", "status": "pending"}], "summary": "secret"}


def research(state: DeepState):
    return {"files": {"notes.md": {"content": ["found"]}}, "notes": ["n1"]}


def answer(state: DeepState):
    done = [{**todo, "status": "completed"} for todo in state["todos"]]
    return {"todos": done, "messages": [AIMessage(",".join(state["files"]))], "notes": ["n2"]}


subagent = StateGraph(DeepState).add_node(research).add_edge(START, "research").compile(name="sub")
agent = (
    StateGraph(DeepState)
    .add_node(plan)
    .add_node("task", subagent)
    .add_node(answer)
    .add_edge(START, "plan")
    .add_edge("plan", "task")
    .add_edge("task", "answer")
    .compile(name="Deep Agent")
)
