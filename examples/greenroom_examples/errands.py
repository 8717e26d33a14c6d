"""An agent that listens: it runs errands, and does another one as soon as somebody says so.

Input: ``{"errand": "bread", "steps": 5}``. While it runs, say something to its run:
``POST /threads/{thread_id}/runs/{run_id}/input`` with ``{"input": {"errand": "cake"}}``.
"""

from __future__ import annotations

import operator
from typing import Annotated, Literal, NotRequired

from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

import greenroom


class State(TypedDict):
    errand: str
    steps: NotRequired[int]
    step_s: NotRequired[float]
    left: NotRequired[int]
    diary: NotRequired[Annotated[list[str], operator.add]]


async def walk(state: State) -> dict[str, object]:
    # The work of a step, and the time in which somebody may change their mind.
    heard = await greenroom.inbox().ahear(timeout_s=state.get("step_s", 1.0))
    if not heard:
        left = state.get("left", state.get("steps", 5)) - 1
        return {"left": left, "diary": [f"{left} steps from the {state['errand']}"]}
    # Several may have spoken meanwhile: the last word counts, and none is lost.
    errand = heard[-1].update["errand"]
    return {
        "errand": errand,
        "left": state.get("steps", 5),
        "diary": [f"never mind the {state['errand']}, I get the {errand}"],
    }


def more(state: State) -> Literal["walk", "__end__"]:
    return "walk" if state.get("left", 1) > 0 else "__end__"


graph = greenroom.listening(
    StateGraph(State)
    .add_node(walk)
    .add_edge(START, "walk")
    .add_conditional_edges("walk", more)
    .compile()
)
