"""Graphs that say where they were executed."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any

import ray
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict


def joined(old: list[str] | None, new: list[str] | None) -> list[str]:
    return [*(old or []), *(new or [])]


class State(TypedDict, total=False):
    """Attributes:

    n: how many steps.
    delay: seconds per step.
    hold: a step after the third waits until this file exists.
    effects: a file for a line per executed step, ``<run> step-<i> <process>``.
    nodes: per step, the name of the node that executed it.
    gpus: which GPUs Ray gave to the process of the last step.
    """

    n: int
    i: int
    delay: float
    hold: str
    effects: str
    nodes: Annotated[list[str], joined]
    gpus: list[str]


async def one_step(state: State, config: RunnableConfig) -> State:
    i = state.get("i", 0) + 1
    await asyncio.sleep(state.get("delay", 0.0))
    while i > 3 and "hold" in state and not os.path.exists(state["hold"]):  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.05)
    if path := state.get("effects"):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        line = f"{config.get('configurable', {})['run_id']} step-{i} {os.getpid()}\n"
        os.write(file, line.encode())
        os.close(file)
    context = ray.get_runtime_context()
    name = context.get_node_labels().get("name", "?")
    gpus = context.get_accelerator_ids().get("GPU", [])
    return {"i": i, "nodes": [name], "gpus": gpus}


def more(state: State) -> Any:
    return "step" if state.get("i", 0) < state.get("n", 3) else END


_steps = StateGraph(State)
_steps.add_node("step", one_step)
_steps.add_edge(START, "step")
_steps.add_conditional_edges("step", more, ["step", END])
steps = _steps.compile()
