import os

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

GREETING = os.environ["GREETING"]


class State(TypedDict, total=False):
    said: str


def say(state: State, config: RunnableConfig) -> State:
    return {"said": f"{GREETING}, {config['configurable'].get('name')}"}


graph = StateGraph(State).add_node(say).add_edge(START, "say").compile()
