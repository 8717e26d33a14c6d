from langgraph.graph import START, StateGraph

from src.chat.state import State


def say(state: State) -> State:
    return {"said": "without __init__"}


graph = StateGraph(State).add_node(say).add_edge(START, "say").compile()
