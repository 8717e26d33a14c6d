"""Reads ``checkpointer.serde`` of `langgraph.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from greenroom.core.errors import ConfigurationError
from greenroom.core.keeping import Allowed, Keeping
from greenroom.graphs.json_values import an_object, refuse_unknown

KEYS = ("allowed_msgpack_modules", "allowed_json_modules", "pickle_fallback")


def keeping_of(checkpointer: Mapping[str, Any]) -> Keeping:
    """Returns the rules for keeping values.

    Args:
        checkpointer: the value of ``checkpointer``.

    Raises:
        ConfigurationError: ``serde`` is malformed.
    """
    given = an_object(checkpointer.get("serde") or {}, "checkpointer.serde")
    refuse_unknown(given, KEYS, "checkpointer.serde")
    pickle = given.get("pickle_fallback")
    if pickle is not None and not isinstance(pickle, bool):
        raise ConfigurationError("'checkpointer.serde.pickle_fallback' must be true or false.")
    return Keeping(
        types=_allowed(given, "allowed_msgpack_modules"),
        json_types=_allowed(given, "allowed_json_modules"),
        pickle=pickle,
    )


def _allowed(given: Mapping[str, Any], key: str) -> Allowed | None:
    if key not in given:
        return None
    value = given[key]
    if value is None:
        return frozenset()
    if value is True:
        return True
    if isinstance(value, list):
        names = [_name(item) for item in cast(list[Any], value)]
        if None not in names:
            return frozenset(name for name in names if name is not None)
    raise ConfigurationError(
        f"'checkpointer.serde.{key}' must be a list of types such as"
        ' [["my_package.my_module", "MyClass"]], true for all types, or null for those that'
        " LangGraph knows."
    )


def _name(item: Any) -> tuple[str, ...] | None:
    """Returns a type's module and name; None if the item is something else."""
    parts = cast(list[Any], item) if isinstance(item, list) else []
    if len(parts) < 2 or not all(isinstance(part, str) and part for part in parts):
        return None
    return tuple(parts)
