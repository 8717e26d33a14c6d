"""The output of a graph: the part of its state that its output schema shows.

Wait, join, ``values``, ``updates`` and webhooks have a run's output. ``/state``, the history, the
record of the thread, and the modes that show LangGraph's work (``debug``, ``tasks``,
``checkpoints``, ``events``) have the whole state.
"""

from __future__ import annotations

from typing import Any

from greenroom.core.outputs import OutputKeys
from greenroom.graphs.loading import Graph


def output_keys(graph: Graph) -> OutputKeys | None:
    """Returns the channels of a graph's output; None when the output is the whole state."""
    shown: str | list[str] = _listed(graph.output_channels)
    state: str | list[str] = _listed(graph.stream_channels_asis)
    if isinstance(shown, list) and isinstance(state, list):
        return shown if set(state) - set(shown) else None
    # A state that is one unnamed channel cannot be cut.
    return None if shown == state or isinstance(state, str) else shown


def _listed(channels: Any) -> str | list[str]:
    return channels if isinstance(channels, str) else list(channels)
