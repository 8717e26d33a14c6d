"""A slow graph: time to join its stream, to stop it, or to kill its process and watch it go on.

Input: ``{"steps": 20, "step_s": 1.0}``. Progress comes as `custom` events.
"""

from __future__ import annotations

import asyncio
from typing import Literal, NotRequired

from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict):
    steps: NotRequired[int]
    step_s: NotRequired[float]
    done: NotRequired[int]


async def step(state: State) -> dict[str, int]:
    await asyncio.sleep(state.get("step_s", 1.0))
    done = state.get("done", 0) + 1
    get_stream_writer()({"done": done, "of": state.get("steps", 20)})
    return {"done": done}


def more(state: State) -> Literal["step", "__end__"]:
    return "step" if state.get("done", 0) < state.get("steps", 20) else "__end__"


# One node in a loop rather than one loop in a node: every time round is a checkpoint, and a run
# whose process dies goes on from the last one.
graph = (
    StateGraph(State)
    .add_node(step)
    .add_edge(START, "step")
    .add_conditional_edges("step", more)
    .compile()
)
