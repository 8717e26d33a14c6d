"""Scopes: which records a caller may reach. Each question to the ports carries one.

A scope is a condition on the metadata of a record: of a thread, an assistant, or a cron. A run is
reached through its thread. What is outside a caller's scope does not exist for that caller.

    Equals     a key has this value: ``{"owner": "ada"}``, ``{"owner": {"$eq": "ada"}}``
    Holds      a list has all these values: ``{"tags": {"$contains": ["a", "b"]}}``
    Every      all parts hold; without a part: everything
    Either     one part holds; without a part: nothing

`greenroom.persistence.scoping` turns a scope into SQL, and is the only place that does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

DEEPEST = 10
MOST_TERMS = 100

Plain = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Equals:
    """A key of the metadata has a value. A missing key equals nothing, not even null.

    Attributes:
        value: JSON with sorted keys.
    """

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Holds:
    """A key of the metadata has a list with all these values, in any order.

    Attributes:
        values: JSON, an array of plain values.
    """

    key: str
    values: str


@dataclass(frozen=True, slots=True)
class Every:
    parts: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple[Term, ...] = ()


Term = Equals | Holds | Every | Either


class UnknownFilter(ValueError):
    """A filter that means nothing here; the message names its place, and none of its values."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A condition on the metadata of records."""

    term: Term

    @classmethod
    def everything(cls) -> Scope:
        return _EVERYTHING

    @classmethod
    def nothing(cls) -> Scope:
        return _NOTHING

    @classmethod
    def of_filter(cls, given: Mapping[str, Any]) -> Scope:
        """Returns the scope of a filter, as a handler of `langgraph_sdk.Auth` returns one.

        Raises:
            UnknownFilter: an operator or a shape is unknown. Such a filter must match nothing.
        """
        return cls(_every(given, DEEPEST))

    @classmethod
    def from_json(cls, text: str) -> Scope:
        """Returns the scope that `to_json` has written."""
        return cls(_read(json.loads(text)))

    def to_json(self) -> str:
        return json.dumps(_written(self.term))

    @property
    def is_everything(self) -> bool:
        return self == _EVERYTHING

    def __and__(self, other: Scope) -> Scope:
        if self.is_everything or self == other:
            return other
        return self if other.is_everything else Scope(Every((self.term, other.term)))


_EVERYTHING = Scope(Every())
_NOTHING = Scope(Either())

SERVER = _EVERYTHING
"""The scope of the server's own work, and of all callers of a server without ``auth``."""


def canonical(value: Any) -> str:
    """Returns a value as JSON with sorted keys.

    Raises:
        UnknownFilter: the value is no JSON.
    """
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, default=str)
    except (TypeError, ValueError):
        raise UnknownFilter("a value is no JSON") from None


def _every(given: Mapping[str, Any], deeper: int) -> Term:
    if not deeper:
        raise UnknownFilter(f"it is more than {DEEPEST} levels deep")
    terms: list[Term] = []
    for key, wanted in given.items():
        if not isinstance(cast(Any, key), str):
            raise UnknownFilter("a key is no string")
        terms.append(_grouped(key, wanted, deeper) if key.startswith("$") else _one(key, wanted))
    if len(terms) > MOST_TERMS:
        raise UnknownFilter(f"it has more than {MOST_TERMS} conditions")
    return terms[0] if len(terms) == 1 else Every(tuple(terms))


def _grouped(operator: str, wanted: Any, deeper: int) -> Term:
    if operator not in ("$and", "$or"):
        raise UnknownFilter(f"the operator {operator[:40]!r} is unknown")
    parts: list[Any] = cast("list[Any]", wanted) if isinstance(wanted, list | tuple) else []
    if not parts or not all(isinstance(part, Mapping) for part in parts):
        raise UnknownFilter(f"{operator} needs a list of filters")
    terms = tuple(_every(cast("Mapping[str, Any]", part), deeper - 1) for part in parts)
    return Every(terms) if operator == "$and" else Either(terms)


def _one(key: str, wanted: Any) -> Term:
    if not isinstance(wanted, Mapping):
        return Equals(key, canonical(wanted))
    operators = cast("Mapping[str, Any]", wanted)
    if not operators:
        raise UnknownFilter(f"{key[:40]!r} has an empty object")
    terms: list[Term] = []
    for operator, operand in operators.items():
        match operator:
            case "$eq":
                terms.append(Equals(key, canonical(operand)))
            case "$contains":
                terms.append(Holds(key, canonical(_plain_values(key, operand))))
            case _:
                raise UnknownFilter(
                    f"{key[:40]!r} has {str(operator)[:40]!r}; use $eq or $contains, also for a"
                    " nested object"
                )
    return terms[0] if len(terms) == 1 else Every(tuple(terms))


def _plain_values(key: str, operand: Any) -> list[Plain]:
    values: list[Any] = (
        list(cast("Any", operand)) if isinstance(operand, list | tuple | set) else [operand]
    )
    if not values or not all(isinstance(each, str | int | float | bool | None) for each in values):
        raise UnknownFilter(f"$contains of {key[:40]!r} needs a plain value, or a list of them")
    return values


def _written(term: Term) -> list[Any]:
    match term:
        case Equals(key, value):
            return ["=", key, value]
        case Holds(key, values):
            return ["@", key, values]
        case Every(parts):
            return ["&", *map(_written, parts)]
        case Either(parts):
            return ["|", *map(_written, parts)]


def _read(given: list[Any]) -> Term:
    match given:
        case ["=", str(key), str(value)]:
            return Equals(key, value)
        case ["@", str(key), str(values)]:
            return Holds(key, values)
        case ["&", *parts]:
            return Every(tuple(_read(part) for part in parts))
        case ["|", *parts]:
            return Either(tuple(_read(part) for part in parts))
        case _:
            raise ValueError("This is no scope.")
