from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from .words import WORD


class State(TypedDict, total=False):
    said: str


def say(state: State) -> State:
    return {"said": WORD}


graph = StateGraph(State).add_node(say).add_edge(START, "say").compile()
