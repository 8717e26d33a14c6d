"""The conditions of a search in the store, as SQL about an item ``s`` that fails for no item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from greenroom.core.filters import Condition
from greenroom.core.store import ANY_LABEL, ItemQuery, Namespace, NamespaceQuery
from greenroom.persistence.json_columns import encode

LIVING = "(s.expires_at IS NULL OR s.expires_at > now())"
PARTS = "string_to_array(s.prefix, '.')"


def where_of(query: ItemQuery) -> tuple[str, dict[str, Any]]:
    """Returns the condition of a search for items ``s``, and the parameters of the statement."""
    inside, params = below(query.prefix)
    conditions = [LIVING, inside]
    for number, condition in enumerate(query.conditions):
        conditions.append(_condition(condition, f"f{number}", params))
    params |= {"limit": query.limit, "offset": query.offset}
    return " AND ".join(conditions), params


def below(prefix: Namespace) -> tuple[str, dict[str, Any]]:
    """Returns the condition of items ``s`` below a prefix, and its parameters."""
    if not prefix:
        return "true", {}
    path = ".".join(prefix)
    return (
        "(s.prefix = %(prefix)s OR s.prefix LIKE %(below)s)",
        {"prefix": path, "below": f"{_literally(path)}.%"},
    )


def _literally(text: str) -> str:
    """Escapes what LIKE would read as a pattern."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


_ORDERINGS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def _condition(condition: Condition, name: str, params: dict[str, Any]) -> str:
    """Returns a condition as SQL that fails for no item, and adds its parameters."""
    steps = [f"{name}_{number}" for number in range(len(condition.path))]
    params |= dict(zip(steps, condition.path, strict=True))
    # With a text, `->` finds nothing in an array; `#>` would find an element by its number.
    at = "s.value" + "".join(f" -> %({step})s::text" for step in steps)
    operator, operand = condition.operator, condition.operand
    if operator == "object":
        return f"coalesce(jsonb_typeof({at}) = 'object', false)"
    if operator in _ORDERINGS and isinstance(operand, str):
        params[name] = operand
        text = "s.value" + "".join(f" -> %({step})s::text" for step in steps[:-1])
        text += f" ->> %({steps[-1]})s::text"
        compared = f'({text}) COLLATE "C" {_ORDERINGS[operator]} %({name})s::text'
        return f"(coalesce(jsonb_typeof({at}) = 'string', false) AND {compared})"
    params[name] = encode(operand).decode()
    if operator in _ORDERINGS:
        compared = f"{at} {_ORDERINGS[operator]} %({name})s::jsonb"
        return f"(coalesce(jsonb_typeof({at}) = 'number', false) AND {compared})"
    sign = "=" if operator == "$eq" else "<>"
    return f"coalesce({at}, 'null'::jsonb) {sign} %({name})s::jsonb"


def matching(query: NamespaceQuery) -> tuple[list[str], dict[str, Any]]:
    """Returns the conditions of a search for namespaces, and their parameters."""
    conditions: list[str] = []
    params: dict[str, Any] = {}

    def each(labels: Sequence[str], name: str, place: Callable[[int], str]) -> None:
        conditions.append(f"cardinality({PARTS}) >= {len(labels)}")
        for number, label in enumerate(labels):
            if label != ANY_LABEL:
                params[f"{name}{number}"] = label
                conditions.append(f"({PARTS})[{place(number)}] = %({name}{number})s")

    if query.prefix:
        each(query.prefix, "head", lambda number: str(number + 1))
    if query.suffix:
        length = len(query.suffix)
        each(query.suffix, "tail", lambda number: f"cardinality({PARTS}) - {length - 1 - number}")
    return conditions, params
