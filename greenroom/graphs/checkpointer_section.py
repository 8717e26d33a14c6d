"""Parses ``checkpointer`` of `langgraph.json`, of which ``ttl`` has an effect."""

from __future__ import annotations

from typing import Any

from greenroom.core.errors import ConfigurationError
from greenroom.core.threads import ThreadTtl
from greenroom.graphs.json_values import an_object, listed, minutes

STRATEGIES = ("delete", "keep_latest")
_KEYS = ("strategy", "default_ttl", "sweep_interval_minutes", "sweep_limit")


def parse_checkpointer(value: Any) -> tuple[ThreadTtl, list[str]]:
    """Parses the section; returns its ``ttl``, and warnings about what has no effect.

    Raises:
        ConfigurationError: a value is invalid; the message names its key and the allowed values.
    """
    if value is None:
        return ThreadTtl(), []
    given = an_object(value, "checkpointer")
    warnings: list[str] = []
    others = [key for key in given if key != "ttl" and given[key]]
    if others:
        warnings.append(
            f"'checkpointer' has keys that have no effect ({listed(others)}): Greenroom keeps"
            " checkpoints in its own PostgreSQL database, and only 'ttl' is honoured."
        )
    if given.get("ttl") is None:
        return ThreadTtl(), warnings
    section = an_object(given["ttl"], "checkpointer.ttl")
    if unknown := [key for key in section if key not in _KEYS]:
        warnings.append(
            "'checkpointer.ttl' has keys that Greenroom does not know, and they have no effect:"
            f" {listed(unknown)}."
        )
    strategy = section.get("strategy", "delete")
    if strategy not in STRATEGIES:
        raise ConfigurationError(
            f"'checkpointer.ttl.strategy' is {strategy!r}; it must be one of {listed(STRATEGIES)}."
        )
    limit = section.get("sweep_limit", ThreadTtl().sweep_limit)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ConfigurationError(
            f"'checkpointer.ttl.sweep_limit' is {limit!r}; it must be a whole number, at least 1."
        )
    where = "checkpointer.ttl.sweep_interval_minutes"
    return ThreadTtl(
        default_minutes=minutes(section.get("default_ttl"), "checkpointer.ttl.default_ttl"),
        strategy=strategy,
        sweep_interval_minutes=minutes(section.get("sweep_interval_minutes"), where),
        sweep_limit=limit,
    ), warnings
