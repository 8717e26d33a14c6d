"""The part of a state that the output schema of a graph shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

OutputKeys = str | list[str]
"""A channel whose value is the output, or the channels that the output has."""


def output_of(values: Any, keys: OutputKeys | None) -> Any:
    """Returns the part of a state's values that is the output."""
    if keys is None or not isinstance(values, Mapping):
        return values
    state = cast(Mapping[str, Any], values)
    if isinstance(keys, str):
        return state.get(keys)
    return {key: value for key, value in state.items() if key in keys}
