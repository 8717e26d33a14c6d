"""What one must not do in an async server, done on purpose: it hurts nobody else here.

Input: ``{"seconds": 10, "how": "sleep"}``, or ``"spin"`` to burn a core. Start a `chat` beside it:
its tokens keep their pace. Cancel it: it cannot listen, so after the grace its process is killed.
"""

from __future__ import annotations

import time
from typing import Literal, NotRequired

from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict):
    seconds: NotRequired[float]
    how: NotRequired[Literal["sleep", "spin"]]
    answer: NotRequired[str]


async def block(state: State) -> dict[str, str]:
    seconds = state.get("seconds", 10.0)
    if state.get("how", "sleep") == "sleep":
        time.sleep(seconds)  # noqa: ASYNC251  the event loop stands still, which is the point
    else:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
    return {"answer": f"I have blocked for {seconds:g} s."}


graph = StateGraph(State).add_node(block).add_edge(START, "block").compile()
