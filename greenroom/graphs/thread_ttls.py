"""Reads ``checkpointer.ttl`` of `langgraph.json`: the time to live of threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greenroom.core.errors import ConfigurationError
from greenroom.core.threads import ThreadTtl
from greenroom.graphs.json_values import an_object, listed, minutes

STRATEGIES = ("delete", "keep_latest")
_KEYS = ("strategy", "default_ttl", "sweep_interval_minutes", "sweep_limit")


def ttl_of(checkpointer: Mapping[str, Any]) -> tuple[ThreadTtl, list[str]]:
    """Returns the time to live of threads, and warnings about keys that have no effect.

    Args:
        checkpointer: the value of ``checkpointer``.

    Raises:
        ConfigurationError: ``ttl`` is malformed; the message names its key and the allowed values.
    """
    given = an_object(checkpointer.get("ttl") or {}, "checkpointer.ttl")
    unknown = [f"checkpointer.ttl.{key}" for key in given if key not in _KEYS]
    strategy = given.get("strategy", "delete")
    if strategy not in STRATEGIES:
        raise ConfigurationError(
            f"'checkpointer.ttl.strategy' is {strategy!r}; it must be one of {listed(STRATEGIES)}."
        )
    limit = given.get("sweep_limit", ThreadTtl().sweep_limit)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ConfigurationError(
            f"'checkpointer.ttl.sweep_limit' is {limit!r}; it must be a whole number, at least 1."
        )
    where = "checkpointer.ttl.sweep_interval_minutes"
    return ThreadTtl(
        default_minutes=minutes(given.get("default_ttl"), "checkpointer.ttl.default_ttl"),
        strategy=strategy,
        sweep_interval_minutes=minutes(given.get("sweep_interval_minutes"), where),
        sweep_limit=limit,
    ), [f"{key!r} is unknown to Greenroom, and has no effect." for key in unknown]
