"""The SQL condition that selects a registry's own threads."""

from __future__ import annotations

from typing import LiteralString, cast

from greenroom.core.sharding import Shard


def is_of(shard: Shard) -> LiteralString:
    """Returns a condition on ``thread_id``; it is always true for a server with one registry."""
    if shard.of == 1:
        return "true"
    condition = f"mod(greenroom.slot_of(thread_id), {shard.of:d}) = {shard.number:d}"
    return cast(LiteralString, condition)
