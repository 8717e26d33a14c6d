"""Graphs that say on whose behalf they are executed, on each attempt."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    """Attributes:

    marker: a file; without it the process dies in mid-run, after it was made.
    """

    marker: str
    seen: dict[str, Any]
    waits: bool


async def tell(state: State, config: RunnableConfig, runtime: Runtime[Any]) -> State:
    marker = Path(state["marker"]) if state.get("marker") else None
    if marker is not None and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if state.get("waits"):
        await asyncio.Event().wait()
    inside = config["configurable"]  # type: ignore[typeddict-item]
    user = inside["langgraph_auth_user"]
    info = runtime.server_info
    return {
        "seen": {
            "identity": user.identity,
            "token": user["token"],
            "keys": sorted(user),
            "id": inside["langgraph_auth_user_id"],
            "permissions": inside["langgraph_auth_permissions"],
            "user_id": inside["user_id"],
            "of_runtime": info.user.identity if info is not None and info.user else None,
            "attempt": config["metadata"]["run_attempt"],  # type: ignore[typeddict-item]
        }
    }


whoami = StateGraph(State).add_node(tell).add_edge(START, "tell").add_edge("tell", END).compile()
chat = StateGraph(State).add_node(tell).add_edge(START, "tell").add_edge("tell", END).compile()
