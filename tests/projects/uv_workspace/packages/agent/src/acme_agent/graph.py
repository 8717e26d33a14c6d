from acme_agent.nodes import say
from acme_core import State
from langgraph.graph import START, StateGraph


def make_graph():
    return StateGraph(State).add_node(say).add_edge(START, "say").compile()
