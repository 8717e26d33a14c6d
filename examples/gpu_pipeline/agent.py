"""Graphs that call the deployments of `model`: by handle, without HTTP, streamed.

Input: ``{"messages": [{"role": "user", "content": "Hello"}]}``
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel
from typing_extensions import TypedDict

from greenroom.models import ServeChatModel

# Names of langgraph.json's `applications`. They are looked for when they are called first.
model = ServeChatModel(app="tiny")
unbatched = ServeChatModel(app="tiny_one_by_one")


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    verdict: NotRequired[dict[str, object]]


def _talking(model: ServeChatModel) -> Any:
    async def talk(state: State, config: RunnableConfig) -> State:
        options = {"max_tokens": config.get("configurable", {}).get("max_tokens")}
        return {"messages": [await model.ainvoke(state["messages"], config, **options)]}

    return StateGraph(State).add_node(talk).add_edge(START, "talk").compile()


talk = _talking(model)
talk_one_by_one = _talking(unbatched)


@tool
def backwards(text: str) -> str:
    """Says a text backwards."""
    return text[::-1]


class Verdict(BaseModel):
    """What the model thinks of an answer."""

    title: str
    grade: int
    publish: bool


async def answer(state: State) -> State:
    return {"messages": [await model.bind_tools([backwards]).ainvoke(state["messages"])]}


async def judge(state: State) -> dict[str, dict[str, object]]:
    verdict = await model.with_structured_output(Verdict).ainvoke(state["messages"])
    return {"verdict": Verdict.model_validate(verdict).model_dump()}


agent = (
    StateGraph(State)
    .add_node(answer)
    .add_node("tools", ToolNode([backwards]))
    .add_node(judge)
    .add_edge(START, "answer")
    .add_conditional_edges("answer", tools_condition, {"tools": "tools", "__end__": "judge"})
    .add_edge("tools", "answer")
    .compile()
)
