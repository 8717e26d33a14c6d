"""Checks values of a configuration file; each error names the key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from greenroom.core.errors import ConfigurationError


def an_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"'{where}' must be a JSON object, not {_kind(value)}.")
    return cast(dict[str, Any], value)


def refuse_unknown(given: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in allowed:
            raise ConfigurationError(f"'{where}.{key}' is unknown; allowed are {listed(allowed)}.")


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
