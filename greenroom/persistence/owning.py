"""Which threads are a registry's own, as PostgreSQL is asked for them."""

from __future__ import annotations

from typing import LiteralString, cast

from greenroom.core.sharding import Shard


def is_of(shard: Shard) -> LiteralString:
    """A condition on ``thread_id``; the one registry of a server has them all."""
    if shard.of == 1:
        return "true"
    condition = f"mod(greenroom.slot_of(thread_id), {shard.of:d}) = {shard.number:d}"
    return cast(LiteralString, condition)
