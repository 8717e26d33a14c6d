"""Reads many checkpoints at once, each value once.

LangGraph's own statement looks up the channels and the writes of each checkpoint by itself, and
reads a value as often as there are checkpoints that have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString, cast

from psycopg import AsyncCursor
from psycopg.rows import DictRow

Place = tuple[str, str]
"""A thread and a namespace."""

_CHECKPOINTS = """
SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata
FROM checkpoints """

_BLOBS = """
SELECT b.thread_id, b.checkpoint_ns, b.channel, b.version, convert_to(b.channel, 'UTF8') AS name,
    convert_to(b.type, 'UTF8') AS type, b.blob
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
    AS wanted (thread_id, checkpoint_ns, channel, version)
JOIN checkpoint_blobs b USING (thread_id, checkpoint_ns, channel, version)"""

_WRITES = """
SELECT w.thread_id, w.checkpoint_ns, w.checkpoint_id, convert_to(w.task_id, 'UTF8') AS task,
    convert_to(w.channel, 'UTF8') AS name, convert_to(w.type, 'UTF8') AS type, w.blob,
    convert_to(w.task_path, 'UTF8') AS path, w.idx::text::bytea AS idx
FROM unnest(%s::text[], %s::text[], %s::text[]) AS wanted (thread_id, checkpoint_ns, checkpoint_id)
JOIN checkpoint_writes w USING (thread_id, checkpoint_ns, checkpoint_id)"""


async def checkpoint_rows(
    cursor: AsyncCursor[DictRow], where: str, params: Sequence[Any], limit: int | None
) -> list[DictRow]:
    """Returns checkpoints, the newest first, with the columns of LangGraph's own statement.

    Args:
        where: the condition, as LangGraph makes it.
        params: its parameters.
        limit: the most checkpoints; None: all.
    """
    sql = f"{_CHECKPOINTS}{where} ORDER BY checkpoint_id DESC"
    if limit is not None:
        sql += f" LIMIT {int(limit)}"
    await cursor.execute(cast(LiteralString, sql), [*params])
    rows = await cursor.fetchall()
    if not rows:
        return rows
    await cursor.execute(_BLOBS, _columns(sorted(_values_of(rows)), 4))
    blobs = {
        (row["thread_id"], row["checkpoint_ns"], row["channel"], row["version"]): [
            row["name"],
            row["type"],
            row["blob"],
        ]
        async for row in cursor
    }
    places = [(row["thread_id"], row["checkpoint_ns"], row["checkpoint_id"]) for row in rows]
    await cursor.execute(_WRITES, _columns(places, 3))
    writes: dict[tuple[str, str, str], list[list[bytes]]] = {}
    async for row in cursor:
        place = row["thread_id"], row["checkpoint_ns"], row["checkpoint_id"]
        parts = [row[name] for name in ("task", "name", "type", "blob", "path", "idx")]
        writes.setdefault(place, []).append(parts)
    for row, place in zip(rows, places, strict=True):
        versions = row["checkpoint"]["channel_versions"].items()
        found = (blobs.get((*place[:2], channel, version)) for channel, version in versions)
        row["channel_values"] = [blob for blob in found if blob is not None]
        row["pending_writes"] = writes.get(place)
    return rows


def _values_of(rows: Sequence[DictRow]) -> set[tuple[str, str, str, str]]:
    """Returns the versions of channels that are not stored in their checkpoints."""
    wanted: set[tuple[str, str, str, str]] = set()
    for row in rows:
        checkpoint: Any = row["checkpoint"]
        inline: dict[str, Any] = checkpoint.get("channel_values") or {}
        for channel, version in checkpoint["channel_versions"].items():
            # What is stored there is True where the value is a snapshot of a delta channel.
            if inline.get(channel, True) is True:
                wanted.add((row["thread_id"], row["checkpoint_ns"], channel, str(version)))
    return wanted


def _columns(rows: Sequence[tuple[str, ...]], count: int) -> list[list[str]]:
    return [[row[n] for row in rows] for n in range(count)]
