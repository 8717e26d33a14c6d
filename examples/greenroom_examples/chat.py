"""The smallest agent: a conversation, and a model that streams its answer.

Input: ``{"messages": [{"role": "user", "content": "Hello"}]}``
"""

from __future__ import annotations

from typing import Annotated

from langchain_core.messages import AnyMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages

# Not typing.TypedDict: pydantic refuses that one before Python 3.12, and schemas need pydantic.
from typing_extensions import TypedDict

from .fake_model import FakeModel

model = FakeModel()


class State(TypedDict):
    # `add_messages` appends: a thread remembers the conversation without any code for it here.
    messages: Annotated[list[AnyMessage], add_messages]


async def answer(state: State) -> State:
    return {"messages": [await model.ainvoke(state["messages"])]}


# No checkpointer is given: the server brings one, so that threads survive its restart.
graph = StateGraph(State).add_node(answer).add_edge(START, "answer").compile()
