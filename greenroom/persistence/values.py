"""Stores a thread's values for an inspector, while the registry keeps runs away from the thread."""

from __future__ import annotations

import psycopg
from psycopg.types.json import Jsonb

from greenroom.persistence.database import Pool
from greenroom.persistence.facets import facets_of
from greenroom.persistence.journal.epochs import EPOCH_SUPERSEDED, Superseded
from greenroom.sealing import UNSEALED, Sealing

_STORE_VALUES = """
UPDATE greenroom.threads SET "values" = %s, facets = %s, state_updated_at = clock_timestamp(),
    updated_at = clock_timestamp()
WHERE thread_id = %s"""


async def store_values(
    pool: Pool,
    thread_id: str,
    values: bytes | None,
    *,
    held: tuple[int, int] | None = None,
    sealing: Sealing = UNSEALED,
) -> None:
    """Stores the thread's values after a change, while the registry keeps runs away.

    Args:
        held: the registry's epoch and its shard's number. A superseded registry no longer keeps
            runs away, so these values may be older than a run's.
        sealing: seals the values.

    Raises:
        Superseded: the registry was superseded; nothing was written.
    """
    facets = facets_of(values) if values is not None and not sealing.is_on else {}
    if values is not None:
        values = await sealing.apart(sealing.seal_json, values)
    text = values.decode() if values is not None else None
    try:
        # A pipeline without a BEGIN is one transaction.
        async with pool.connection() as connection, connection.pipeline():
            if held is not None:
                await connection.execute("SELECT greenroom.hold_epoch(%s, %s)", held)
            await connection.execute(_STORE_VALUES, (text, Jsonb(facets), thread_id))
    except psycopg.Error as error:
        if error.sqlstate == EPOCH_SUPERSEDED:
            raise Superseded("The registry that asked for this was superseded.") from None
        raise
