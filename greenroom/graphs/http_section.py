"""The keys of ``http`` of `langgraph.json` that Greenroom honours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.json_values import an_object


def serves_openai(top: Mapping[str, Any]) -> bool:
    """Returns whether ``http.openai`` asks for the OpenAI-compatible routes.

    Args:
        top: the content of the file.

    Raises:
        ConfigurationError: it is neither true nor false.
    """
    value = an_object(top.get("http") or {}, "http").get("openai", False)
    if not isinstance(value, bool):
        raise ConfigurationError("'http.openai' must be true or false.")
    return value


def not_honoured(top: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of ``http`` that have no effect."""
    return {k: v for k, v in an_object(top.get("http") or {}, "http").items() if k != "openai"}
