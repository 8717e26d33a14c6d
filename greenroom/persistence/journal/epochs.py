"""Epochs and generations: which registry may write.

Each registry takes an epoch at its start, and every transaction of its journal holds that epoch.
So nothing is written by a registry that another one has superseded, however late it acts. The
generation counts the starts of servers; a registry takes no epoch once a registry of a later
generation has one.
"""

from __future__ import annotations

from greenroom.core.errors import Fenced
from greenroom.core.sharding import WHOLE, Shard
from greenroom.persistence.database import Connection

EPOCH_SUPERSEDED = "GR002"
"""The SQL state with which ``greenroom.hold_epoch`` refuses a transaction."""

_NEXT_GENERATION = """
UPDATE greenroom.registry SET starts = greatest(
    starts + 1, (extract(epoch FROM clock_timestamp()) * 1e9)::bigint)
WHERE shard = 0 RETURNING starts"""
_TAKE_EPOCH = "SELECT greenroom.take_epoch(%s, %s) AS epoch"


class Superseded(Fenced):
    """A newer registry has taken over; this one writes nothing more."""


async def next_generation(connection: Connection) -> int:
    """Returns the generation of a start of a server.

    It is later than every generation before, also where clocks are set back. If the server uses
    another database now, it is most likely later than the generations of the database before.
    """
    cursor = await connection.execute(_NEXT_GENERATION)
    row = await cursor.fetchone()
    assert row is not None
    return row["starts"]


async def take_epoch(connection: Connection, generation: int, shard: Shard = WHOLE) -> int:
    """Makes the caller the only registry of its shard that may write; returns its epoch.

    Args:
        connection: the epoch is taken when its transaction commits.
        generation: the caller's, as `next_generation` gave it to the start of its server.
        shard: the part of the threads that the caller serves.

    Raises:
        Superseded: a registry of a later generation, of any shard, has taken an epoch.
    """
    cursor = await connection.execute(_TAKE_EPOCH, (generation, shard.number))
    row = await cursor.fetchone()
    if row is None or row["epoch"] is None:
        raise Superseded("A server that was started later uses this database.")
    return row["epoch"]
