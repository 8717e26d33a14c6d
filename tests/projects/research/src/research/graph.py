import operator
from typing import Annotated

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from research.configuration import Configuration


class Input(TypedDict):
    topic: str


class Output(TypedDict):
    report: str


class State(Input, Output, total=False):
    notes: Annotated[list[str], operator.add]


class Part(TypedDict):
    topic: str
    number: int


def split(state: State, config: RunnableConfig):
    breadth = Configuration.from_runnable_config(config).breadth
    return [Send("look", {"topic": state["topic"], "number": n}) for n in range(breadth)]


def look(part: Part):
    return {"notes": [f"{part['topic']} {part['number']}"]}


def write(state: State):
    return {"report": "; ".join(sorted(state["notes"]))}


graph = (
    StateGraph(State, input_schema=Input, output_schema=Output, context_schema=Configuration)
    .add_node(look)
    .add_node(write)
    .add_conditional_edges(START, split, ["look"])
    .add_edge("look", "write")
    .compile()
)
