"""An agent with tools: the model asks for them, LangGraph's `ToolNode` really calls them.

Ask it ``What is 6 times 7, and the weather in Oslo?``, with the input of `chat`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from typing_extensions import TypedDict

from .fake_model import FakeModel


@tool
def multiply(a: int, b: int) -> int:
    """Multiplies two whole numbers."""
    return a * b


@tool
def weather(city: str) -> str:
    """Says what the weather is like in a city."""
    outlooks = ("sunny", "cloudy", "raining", "snowing")
    return f"It is {outlooks[len(city) % len(outlooks)]} in {city}."


class ToolModel(FakeModel):
    """Reads the question with two patterns, where a real model would have understood it."""

    def reply(self, messages: Sequence[BaseMessage]) -> AIMessage:
        answers = _answers(messages)
        if answers:
            return AIMessage("Here is what I found. " + " ".join(answers))
        question = str(messages[-1].text)
        calls = [
            {"name": "multiply", "args": {"a": int(a), "b": int(b)}}
            for a, b in re.findall(r"(\d+)\s*(?:times|\*|x)\s*(\d+)", question)
        ] + [
            {"name": "weather", "args": {"city": city}}
            for city in re.findall(r"weather in (\w+)", question)
        ]
        if not calls:
            return AIMessage("I can multiply (6 times 7), and tell the weather in a city.")
        asked = [{**call, "id": f"call-{n}"} for n, call in enumerate(calls)]
        return AIMessage("Let me look that up. ", tool_calls=asked)


def _answers(messages: Sequence[BaseMessage]) -> list[str]:
    """What the tools said since the model last spoke."""
    answers: list[str] = []
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        answers.insert(0, str(message.content))
    return answers


model = ToolModel()


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


async def agent(state: State) -> State:
    return {"messages": [await model.ainvoke(state["messages"])]}


# The loop of every tool agent: while the model asks for tools, call them and ask it again.
graph = (
    StateGraph(State)
    .add_node(agent)
    .add_node("tools", ToolNode([multiply, weather]))
    .add_edge(START, "agent")
    .add_conditional_edges("agent", tools_condition)
    .add_edge("tools", "agent")
    .compile()
)
