"""A swarm: the agent that was active last goes on; agents hand over to each other."""

import operator
from typing import Annotated

from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from swarm_app.handoff import hand_off


class State(TypedDict, total=False):
    active_agent: str
    said: Annotated[dict[str, int], operator.or_]


def alice(state: State):
    return hand_off("bob", "alice")


def bob(state: State):
    return {"said": {"bob": state.get("said", {}).get("bob", 0) + 1}}


def agent(node):
    return StateGraph(State).add_node("agent", node).add_edge(START, "agent").compile()


app = (
    StateGraph(State)
    .add_node("alice", agent(alice), destinations=("bob",))
    .add_node("bob", agent(bob))
    .add_conditional_edges(START, lambda state: state.get("active_agent", "alice"))
    .compile()
)
