"""Scopes as SQL: the one place that renders the conditions of `greenroom.core.scopes`.

``@>`` comes first, since the GIN indices of metadata answer it. It is exact for plain values and
for lists that hold plain ones. A value that is an object or a list is compared as well, because
``@>`` accepts a larger one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from psycopg.types.json import Jsonb

from greenroom.core.scopes import Either, Equals, Every, Holds, Scope, Term

Place = Callable[[Any], str]
"""Takes a value; returns the placeholder for it."""


def condition(scope: Scope, column: str = "metadata") -> tuple[str, list[Any]]:
    """Returns a condition with ``%s`` placeholders, and their values.

    Args:
        column: the metadata, e.g. ``t.metadata``.
    """
    values: list[Any] = []

    def place(value: Any) -> str:
        values.append(value)
        return "%s"

    return _sql(scope.term, column, place), values


def named_condition(scope: Scope, column: str = "metadata") -> tuple[str, dict[str, Any]]:
    """Returns a condition with placeholders ``%(scope_0)s``, and their values by name."""
    values: dict[str, Any] = {}

    def place(value: Any) -> str:
        name = f"scope_{len(values)}"
        values[name] = value
        return f"%({name})s"

    return _sql(scope.term, column, place), values


def document(scope: Scope) -> dict[str, Any] | None:
    """Returns a JSON object that metadata within the scope contain (``@>``), and no others; None
    if no single object says that."""
    found: dict[str, Any] = {}
    terms = scope.term.parts if isinstance(scope.term, Every) else (scope.term,)
    for term in terms:
        match term:
            case Equals(key, value) if key not in found and value[:1] not in "[{":
                found[key] = json.loads(value)
            case Holds(key, values) if key not in found:
                found[key] = json.loads(values)
            case _:
                return None
    return found


def _sql(term: Term, column: str, place: Place) -> str:
    match term:
        case Equals(key, value):
            contained = f"{column} @> {place(Jsonb({key: json.loads(value)}))}::jsonb"
            if value[:1] not in "[{":
                return contained
            return f"({contained} AND {column} -> {place(key)}::text = {place(value)}::jsonb)"
        case Holds(key, values):
            return f"{column} @> {place(Jsonb({key: json.loads(values)}))}::jsonb"
        case Every(()):
            return "true"
        case Either(()):
            return "false"
        case Every(parts):
            return f"({' AND '.join(_sql(part, column, place) for part in parts)})"
        case Either(parts):
            return f"({' OR '.join(_sql(part, column, place) for part in parts)})"
