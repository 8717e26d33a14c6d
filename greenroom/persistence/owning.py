"""The SQL condition that selects a registry's own threads."""

from __future__ import annotations

from typing import LiteralString, cast

from greenroom.core.sharding import Shard


def is_of(shard: Shard, owner: LiteralString = "thread_id") -> LiteralString:
    """Returns a condition on a thread's id; it is always true for a server with one registry.

    Args:
        owner: the SQL expression of the id.
    """
    if shard.of == 1:
        return "true"
    condition = f"mod(greenroom.slot_of({owner}), {shard.of:d}) = {shard.number:d}"
    return cast(LiteralString, condition)
