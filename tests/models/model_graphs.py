"""Graphs that call a deployment in one way each."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from langchain_core.messages import AnyMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from ray import serve
from typing_extensions import TypedDict

from greenroom.models import ServeChatModel


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def talking(model: ServeChatModel) -> Any:
    async def talk(state: State) -> State:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(State).add_node(talk).add_edge(START, "talk").compile()


def talking_in_a_thread(model: ServeChatModel) -> Any:
    def talk(state: State) -> State:
        return {"messages": [model.invoke(state["messages"])]}

    return StateGraph(State).add_node(talk).add_edge(START, "talk").compile()


of_threads = talking_in_a_thread(ServeChatModel(app="tiny", model_kwargs={"max_tokens": 5}))
of_ray_llm = talking(ServeChatModel(app="others", deployment="Others", ray_llm=True, model="qwen"))
endless = talking(ServeChatModel(app="others", method="endless"))
refused = talking(ServeChatModel(app="others", method="refuse"))
nobody = talking(ServeChatModel(app="nobody"))


class Asked(TypedDict):
    app: str
    counts: NotRequired[dict[str, Any]]


async def ask(state: Asked) -> Asked:
    handle = serve.get_app_handle(state["app"])
    return {**state, "counts": await handle.counts.remote()}


asked = StateGraph(Asked).add_node(ask).add_edge(START, "ask").compile()
