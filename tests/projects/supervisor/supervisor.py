"""A supervisor: agents are subgraphs that hand back to their parent."""

import operator
from typing import Annotated

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    done: Annotated[list[str], operator.add]


def worker(name: str):
    def work(state: State):
        update = {"done": [name]}
        return Command(goto="supervisor", update=update, graph=Command.PARENT)

    return StateGraph(State).add_node("work", work).add_edge(START, "work").compile(name=name)


def supervisor(state: State) -> Command:
    for name in ("research", "math"):
        if name not in state.get("done", []):
            return Command(goto=name)
    return Command(goto=END)


app = (
    StateGraph(State)
    .add_node("supervisor", supervisor, destinations=("research", "math", END))
    .add_node("research", worker("research"))
    .add_node("math", worker("math"))
    .add_edge(START, "supervisor")
    .compile()
)
