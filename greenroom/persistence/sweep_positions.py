"""How far sweeps have come, of what runs leave that are over.

A position is a time: what runs have left that ended before it is deleted, as far as it was due. The
database keeps it, so that a registry that starts need not look at all runs again.
"""

from __future__ import annotations

import time

from greenroom.persistence.database import Connection, Pool, retrying, rows_of

STORE_EVERY_S = 60.0
"""A position is stored so often at most: a sweep that finds nothing should write nothing."""


class SweepPositions:
    """The positions of one sweeper, which alone advances them. Times are of `time.monotonic`.

    Args:
        positions: by kind of what is swept.
    """

    def __init__(self, pool: Pool, positions: dict[str, float]) -> None:
        self._pool = pool
        self._positions = positions
        self._stored_s: dict[str, float] = {}

    @classmethod
    async def stored(cls, pool: Pool) -> SweepPositions:
        """Returns the positions that the database has."""
        rows = await rows_of(
            pool,
            "SELECT kind, extract(epoch FROM clock_timestamp() - ended_before)::float8 AS ago_s"
            " FROM greenroom.sweeps",
            {},
        )
        now_s = time.monotonic()
        return cls(pool, {row["kind"]: now_s - row["ago_s"] for row in rows})

    def of(self, kind: str) -> float | None:
        """Returns a position; None before the first complete sweep of the kind."""
        return self._positions.get(kind)

    async def advance(self, kind: str, position_s: float) -> None:
        """Notes a complete sweep; a position never goes back, though more is kept than before.

        Raises:
            DatabaseUnavailable: it may be stored or not.
        """
        position_s = max(position_s, self._positions.get(kind, position_s))
        self._positions[kind] = position_s
        now_s = time.monotonic()
        stored_s = self._stored_s.get(kind)
        if stored_s is not None and now_s - stored_s < STORE_EVERY_S:
            return

        async def store(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO greenroom.sweeps (kind, ended_before)"
                " VALUES (%s, clock_timestamp() - make_interval(secs => %s))"
                " ON CONFLICT (kind) DO UPDATE SET ended_before = excluded.ended_before",
                (kind, now_s - position_s),
            )

        await retrying(self._pool, store)
        self._stored_s[kind] = now_s
