"""The output of a graph: the part of its state that its output schema shows.

Wait, join, ``values``, ``updates`` and webhooks have a run's output. ``/state``, the history, the
record of the thread, and the modes that show LangGraph's work (``debug``, ``tasks``,
``checkpoints``, ``events``) have the whole state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from greenroom.graphs.loading import Graph

OutputKeys = str | list[str]
"""A channel whose value is the output, or the channels that the output has."""


def output_keys(graph: Graph) -> OutputKeys | None:
    """Returns the channels of a graph's output; None when the output is the whole state."""
    shown: str | list[str] = _listed(graph.output_channels)
    state: str | list[str] = _listed(graph.stream_channels_asis)
    if isinstance(shown, list) and isinstance(state, list):
        return shown if set(state) - set(shown) else None
    # A state that is one unnamed channel cannot be cut.
    return None if shown == state or isinstance(state, str) else shown


def output_of(values: Any, keys: OutputKeys | None) -> Any:
    """Returns the part of a state's values that is the output."""
    if keys is None or not isinstance(values, Mapping):
        return values
    state = cast(Mapping[str, Any], values)
    if isinstance(keys, str):
        return state.get(keys)
    return {key: value for key, value in state.items() if key in keys}


def _listed(channels: Any) -> str | list[str]:
    return channels if isinstance(channels, str) else list(channels)
