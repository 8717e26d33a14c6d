from langgraph.graph import START, StateGraph
from prompts import GREETING
from tools import greet
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    name: str
    said: str


def say(state: State) -> State:
    return {"said": greet(GREETING, state["name"])}


workflow = StateGraph(State).add_node(say).add_edge(START, "say")
