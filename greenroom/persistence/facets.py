"""The facets of a thread: the short plain values at the top of its state.

They are what a search by values mostly names. An index over all of a state would cost more at the
end of every run than the run; and were they taken out in PostgreSQL, it would parse all of a state
for them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast

from greenroom.persistence.database import decode

MAX_LENGTH = 256


def facets_of(values: bytes) -> dict[str, Any]:
    """The facets of a thread's values, which are JSON."""
    try:
        state = decode(values)
    except ValueError:  # half a surrogate pair: nothing of it can be searched for
        return {}
    if not isinstance(state, dict):
        return {}
    found = cast("dict[str, Any]", state)
    return {
        without_nul(name): without_nul(value) for name, value in found.items() if is_facet(value)
    }


def is_facet(value: Any) -> bool:
    """Whether a value at the top of a state is one."""
    if isinstance(value, str):
        return len(value) <= MAX_LENGTH and len(json.dumps(value)) <= MAX_LENGTH
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and len(str(value)) <= MAX_LENGTH


def without_nul(value: Any) -> Any:
    """What `greenroom.searchable` makes of the same value."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {without_nul(key): without_nul(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [without_nul(item) for item in cast("list[Any]", value)]
    return value
