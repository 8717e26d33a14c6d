from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    said: str


def say(state: State) -> State:
    return {"said": "module"}


graph = StateGraph(State).add_node(say).add_edge(START, "say").compile()
