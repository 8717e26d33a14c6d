"""LangGraph graphs as Ray actors, behind the LangGraph Platform HTTP/SSE API.

The names for notebooks and for graphs are here and load on first use: ``import greenroom`` alone
imports neither Ray nor LangGraph nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greenroom.agents import SteeringMiddleware
    from greenroom.hearing import Inbox, Said, inbox, listening
    from greenroom.notebook import (
        Room,
        Run,
        RunRecord,
        Table,
        messages,
        open,
        running_nodes,
        runs_table,
    )
    from greenroom.notebook.timeline import timeline

__all__ = [
    "Inbox",
    "Room",
    "Run",
    "RunRecord",
    "Said",
    "SteeringMiddleware",
    "Table",
    "inbox",
    "listening",
    "messages",
    "open",
    "running_nodes",
    "runs_table",
    "timeline",
]


def __getattr__(name: str) -> Any:
    if name == "timeline":
        from greenroom.notebook.timeline import timeline

        return timeline
    if name in ("Inbox", "Said", "inbox", "listening"):
        # Not `from greenroom import`: its names are asked of this function.
        return getattr(import_module("greenroom.hearing"), name)
    if name == "SteeringMiddleware":
        return import_module("greenroom.agents").SteeringMiddleware
    if name in __all__:
        from greenroom import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module 'greenroom' has no attribute {name!r}")
