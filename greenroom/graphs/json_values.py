"""Checks values of a configuration file; each error names the key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from greenroom.core.errors import ConfigurationError

LONGEST_MINUTES = 5_256_000
"""Ten years."""


def an_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"'{where}' must be a JSON object, not {_kind(value)}.")
    return cast(dict[str, Any], value)


def refuse_unknown(given: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in allowed:
            raise ConfigurationError(f"'{where}.{key}' is unknown; allowed are {listed(allowed)}.")


def minutes(value: Any, where: str) -> float | None:
    """Returns a number of minutes above 0; None for none."""
    if value is None:
        return None
    right = isinstance(value, int | float) and not isinstance(value, bool)
    if not right or not math.isfinite(value) or not 0 < value <= LONGEST_MINUTES:
        raise ConfigurationError(
            f"'{where}' is {value!r}; it must be a number of minutes above 0, up to"
            f" {LONGEST_MINUTES}."
        )
    return float(value)


def listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _kind(value: Any) -> str:
    names: dict[Any, str] = {
        type(None): "nothing",
        list: "a list",
        str: "a string",
        bool: "a boolean",
    }
    return names.get(type(value), "a number")
