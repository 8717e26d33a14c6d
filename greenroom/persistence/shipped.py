"""The versions of shipped graphs, and the version that each run uses.

The next run uses the newest version of a graph. A run keeps the version with which its first
attempt began (`pin`), so that after a crash it goes on with the code that wrote its checkpoints. A
version is deleted when it is not the newest and no unfinished run uses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from greenroom.core.errors import ConfigurationError
from greenroom.persistence.database import Connection, Pool, retrying
from greenroom.persistence.json_columns import encode

_LOCK = "hashtext('greenroom.ship')"


@dataclass(frozen=True, kw_only=True, slots=True)
class Payload:
    """One version of a shipped graph.

    Attributes:
        python: the version of Python that packed it, e.g. ``3.11``.
        data: the bytes from `graphs.shipping.pack`.
    """

    number: int
    python: str
    data: bytes


async def ship(
    pool: Pool, graph_id: str, data: bytes, *, python: str, placement: Mapping[str, Any]
) -> int:
    """Stores a graph for the next runs; returns the number of its version.

    The same bytes as the newest version make no new version.

    Raises:
        ConfigurationError: the server's configuration has a graph of that name, or the graph was
            shipped before with another placement, which its actors have.
    """
    digest = hashlib.sha256(data).hexdigest()

    async def write(conn: Connection) -> int:
        async with conn.transaction():
            await conn.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
            newest = await _newest(conn, graph_id)
            if newest is None:
                await _refuse_configured(conn, graph_id)
            elif newest["placement"] != dict(placement):
                raise ConfigurationError(
                    f"Graph {graph_id!r} was shipped with another placement, and its actors have"
                    " that: give it another name, or close the room first."
                )
            elif (newest["digest"], newest["python"]) == (digest, python):
                return newest["number"]
            cursor = await conn.execute(
                "INSERT INTO greenroom.shipped_graphs (graph_id, digest, python, placement,"
                " payload) VALUES (%s, %s, %s, %s, %s) RETURNING number",
                (graph_id, digest, python, encode(placement).decode(), data),
            )
            row = await cursor.fetchone()
            assert row is not None
            await _forget_old(conn, graph_id)
            return row["number"]

    return await retrying(pool, write)


async def placements(pool: Pool) -> dict[str, dict[str, Any]]:
    """Returns the placement of every shipped graph, by name."""

    async def select(conn: Connection) -> dict[str, dict[str, Any]]:
        cursor = await conn.execute(
            "SELECT DISTINCT ON (graph_id) graph_id, placement FROM greenroom.shipped_graphs"
            " ORDER BY graph_id, number DESC"
        )
        return {row["graph_id"]: row["placement"] for row in await cursor.fetchall()}

    return await retrying(pool, select)


async def newest(pool: Pool, graph_id: str) -> int | None:
    """The number of a graph's newest version, or None when none was shipped."""

    async def select(conn: Connection) -> int | None:
        row = await _newest(conn, graph_id)
        return row["number"] if row is not None else None

    return await retrying(pool, select)


async def pin(pool: Pool, graph_id: str, run_id: str) -> int | None:
    """Returns the version that a run uses; the newest one becomes it, if the run has none yet."""

    async def update(conn: Connection) -> int | None:
        async with conn.pipeline():  # one transaction
            # Otherwise a concurrent `ship` could delete the version that is being chosen.
            await conn.execute(f"SELECT pg_advisory_xact_lock_shared({_LOCK})")
            cursor = await conn.execute(
                "UPDATE greenroom.runs SET shipped_number = coalesce(shipped_number, (SELECT"
                " max(number) FROM greenroom.shipped_graphs WHERE graph_id = %s)) WHERE run_id = %s"
                " RETURNING shipped_number",
                (graph_id, run_id),
            )
        row = await cursor.fetchone()
        return row["shipped_number"] if row is not None else None

    return await retrying(pool, update)


async def payload(pool: Pool, number: int) -> Payload | None:
    """Returns a version, or None when it was deleted."""

    async def select(conn: Connection) -> Payload | None:
        cursor = await conn.execute(
            "SELECT python, payload FROM greenroom.shipped_graphs WHERE number = %s",
            (number,),
            binary=True,
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        return Payload(number=number, python=row["python"], data=bytes(row["payload"]))

    return await retrying(pool, select)


async def _newest(conn: Connection, graph_id: str) -> dict[str, Any] | None:
    cursor = await conn.execute(
        "SELECT number, digest, python, placement FROM greenroom.shipped_graphs"
        " WHERE graph_id = %s ORDER BY number DESC LIMIT 1",
        (graph_id,),
    )
    return await cursor.fetchone()


async def _refuse_configured(conn: Connection, graph_id: str) -> None:
    cursor = await conn.execute(
        "SELECT 1 FROM greenroom.assistants WHERE graph_id = %s LIMIT 1", (graph_id,)
    )
    if await cursor.fetchone() is not None:
        raise ConfigurationError(
            f"The server has a graph {graph_id!r} of its own; ship yours under another name."
        )


async def _forget_old(conn: Connection, graph_id: str) -> None:
    await conn.execute(
        """
        DELETE FROM greenroom.shipped_graphs s WHERE s.graph_id = %(graph_id)s
            AND s.number < (SELECT max(number) FROM greenroom.shipped_graphs
                WHERE graph_id = %(graph_id)s)
            AND NOT EXISTS (SELECT 1 FROM greenroom.runs r
                WHERE r.shipped_number = s.number AND r.status IN ('pending', 'running'))""",
        {"graph_id": graph_id},
    )
