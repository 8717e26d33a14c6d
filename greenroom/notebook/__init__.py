"""Graphs in notebooks: `open` a room for them, watch their runs, move them to a cluster unchanged.

    import greenroom

    room = greenroom.open(graph)
    room.watch("Hello")

Needs the extra ``notebook``. docs/architecture.md, "Notebooks", explains the design.
"""

from __future__ import annotations

from greenroom.notebook.attached import Run
from greenroom.notebook.display import Table, runs_table
from greenroom.notebook.opening import open
from greenroom.notebook.recording import (
    Event,
    RunRecord,
    Span,
    messages,
    record_of,
    running_nodes,
    spans,
)
from greenroom.notebook.room import Room

__all__ = [
    "Event",
    "Room",
    "Run",
    "RunRecord",
    "Span",
    "Table",
    "messages",
    "open",
    "record_of",
    "running_nodes",
    "runs_table",
    "spans",
]
