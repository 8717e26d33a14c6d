from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    answer: str


def ask(state: State) -> State:
    return {"answer": interrupt({"question": "May I?"})}


graph = StateGraph(State).add_node(ask).add_edge(START, "ask").compile()
