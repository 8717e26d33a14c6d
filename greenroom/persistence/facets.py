"""The facets of a thread: the short plain values at the top of its state.

Most searches by values name them. An index over the whole state would cost more at the end of every
run than the run itself, and PostgreSQL would have to parse the whole state to extract them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import orjson

from greenroom.persistence.json_columns import decode

MAX_LENGTH = 256
MAX_ENCODED = 4096
"""No facet is longer as JSON, where a character has up to 12 bytes."""

_TOP = msgspec.json.Decoder(dict[str, msgspec.Raw])


def facets_of(values: bytes) -> dict[str, Any]:
    """Returns the facets of a thread's values, given as JSON."""
    try:
        state = decode(values if len(values) <= MAX_ENCODED else _without_long_ones(values))
    except (ValueError, msgspec.MsgspecError):  # of older versions it is no ValueError
        return {}  # half a surrogate pair, or no object: nothing of it can be searched for
    if not isinstance(state, dict):
        return {}
    found = cast("dict[str, Any]", state)
    return {
        without_nul(name): without_nul(value) for name, value in found.items() if is_facet(value)
    }


def _without_long_ones(values: bytes) -> bytes:
    """Returns a state without the values that are no facets because they are too long. They are
    skipped: to parse a state of 10 MiB takes longer than to store it."""
    parts = _TOP.decode(values)
    kept = {name: orjson.Fragment(part) for name, raw in parts.items() if (part := _short(raw))}
    return orjson.dumps(kept)


def _short(raw: msgspec.Raw) -> bytes | None:
    part = memoryview(raw)
    return (
        bytes(part) if part.nbytes <= MAX_ENCODED and bytes(part[:1]) not in (b"{", b"[") else None
    )


def is_facet(value: Any) -> bool:
    """Returns whether a value at the top of a state is a facet."""
    if isinstance(value, str):
        return len(value) <= MAX_LENGTH and len(json.dumps(value)) <= MAX_LENGTH
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and len(str(value)) <= MAX_LENGTH


def without_nul(value: Any) -> Any:
    """Does the same as `greenroom.searchable` in PostgreSQL."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {without_nul(key): without_nul(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [without_nul(item) for item in cast("list[Any]", value)]
    return value
