"""The filters of a search in the store: a JSON object becomes conditions.

    {"key": value}                 the key has this value; null: it is null or missing
    {"key": {"$gt": 1}}            an operator; several of them all hold
    {"key": {"inner": value}}      the key has an object, for which the same rules hold

``$gt``, ``$gte``, ``$lt`` and ``$lte`` compare numbers with a number and strings with a string; an
item without the key, or with another type there, is no match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from greenroom.core.errors import BadRequest

Operator = Literal["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "object"]

EQUALITY = ("$eq", "$ne")
ORDERING = ("$gt", "$gte", "$lt", "$lte")
DEEPEST = 20
MOST_CONDITIONS = 100


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition.

    Attributes:
        path: the keys that lead to the value.
        operator: the comparison; ``object``: the value is an object.
        operand: the value to compare with.
    """

    path: tuple[str, ...]
    operator: Operator
    operand: Any = None


def conditions_of(given: Mapping[str, Any] | None) -> tuple[Condition, ...]:
    """Returns the conditions of a filter.

    Raises:
        BadRequest: an operator is unknown or has an operand that it cannot compare; the message
            names the allowed ones.
    """
    found: list[Condition] = []
    for key, wanted in (given or {}).items():
        if key.startswith("$"):
            raise BadRequest(
                f"Unsupported operator: {key[:80]}. A filter names keys; operators stand inside"
                ' one, as in {"age": {"$gt": 3}}, and all keys must match.'
            )
        _add(found, (key,), wanted)
    if len(found) > MOST_CONDITIONS:
        raise BadRequest(f"A filter may have {MOST_CONDITIONS} conditions, not {len(found)}.")
    return tuple(found)


def _add(found: list[Condition], path: tuple[str, ...], wanted: Any) -> None:
    if not isinstance(wanted, Mapping):
        found.append(Condition(path, "$eq", wanted))
        return
    inner = cast(Mapping[str, Any], wanted)
    if any(key.startswith("$") for key in inner):
        found += [_compared(path, key, operand) for key, operand in inner.items()]
        return
    if len(path) >= DEEPEST:
        raise BadRequest(f"A filter may be {DEEPEST} levels deep.")
    found.append(Condition(path, "object"))
    for key, value in inner.items():
        _add(found, (*path, key), value)


def _compared(path: tuple[str, ...], operator: str, operand: Any) -> Condition:
    if operator not in (*EQUALITY, *ORDERING):
        raise BadRequest(
            f"Unsupported operator: {operator[:80]}. Use one of "
            f"{', '.join((*EQUALITY, *ORDERING))}."
        )
    plain = isinstance(operand, int | float | str) and not isinstance(operand, bool)
    if operator in ORDERING and not plain:
        raise BadRequest(f"{operator} of {path[-1][:80]!r} compares with a number or a string.")
    return Condition(path, cast(Operator, operator), operand)
