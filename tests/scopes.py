"""Scopes in memory: what `greenroom.persistence.scoping` says in SQL, for doubles of the ports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from greenroom.core.scopes import Either, Equals, Every, Holds, Scope, Term


def admits(scope: Scope, metadata: Any) -> bool:
    """Returns whether metadata are within a scope."""
    if isinstance(metadata, orjson.Fragment):
        metadata = orjson.loads(orjson.dumps(metadata))
    return _admits(scope.term, metadata or {})


def _admits(term: Term, metadata: Mapping[str, Any]) -> bool:
    match term:
        case Equals(key, value):
            return key in metadata and _same(metadata[key], json.loads(value))
        case Holds(key, values):
            held = metadata.get(key)
            return isinstance(held, list) and all(
                any(_same(each, wanted) for each in held) for wanted in json.loads(values)
            )
        case Every(parts):
            return all(_admits(part, metadata) for part in parts)
        case Either(parts):
            return any(_admits(part, metadata) for part in parts)


def _same(one: Any, other: Any) -> bool:
    """As PostgreSQL compares JSON: true is not 1, and 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return (type(one) in (int, float) and type(other) in (int, float) and one == other) or (
        type(one) is type(other) and one == other
    )
