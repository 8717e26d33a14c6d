"""Rows of a thread as LangGraph's saver leaves them, without LangGraph."""

from __future__ import annotations

import json
from typing import Any

from greenroom.persistence.database import Pool

TABLES = {
    "checkpoints": "checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata",
    "checkpoint_blobs": "checkpoint_ns, channel, version, type, md5(blob)",
    "checkpoint_writes": (
        "checkpoint_ns, checkpoint_id, task_id, idx, channel, type, md5(blob), task_path"
    ),
}


async def execute(pool: Pool, sql: str, *params: Any) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(sql, params)  # type: ignore[arg-type]
        if cursor.description is None:
            return []
        return [tuple(row.values()) for row in await cursor.fetchall()]


async def checkpoint(
    pool: Pool, run_id: str, checkpoint_id: str, thread_id: str = "t", *, ns: str = ""
) -> None:
    """A checkpoint of a run with a value of its own in channel ``c``."""
    await checkpoints(pool, run_id, [checkpoint_id], thread_id, ns=ns)


async def checkpoints(
    pool: Pool,
    run_id: str,
    checkpoint_ids: list[str],
    thread_id: str = "t",
    *,
    ns: str = "",
    size: int = 8,
) -> None:
    """Checkpoints with a value each, of ``size`` bytes, which are stored as they are."""
    await execute(
        pool,
        "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)"
        " SELECT %s, %s, id, jsonb_build_object('channel_versions', jsonb_build_object('c', id)),"
        " %s::jsonb FROM unnest(%s::text[]) id",
        thread_id,
        ns,
        json.dumps({"run_id": run_id}),
        checkpoint_ids,
    )
    await execute(
        pool,
        "INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)"
        " SELECT %s, %s, 'c', id, 'x', convert_to(repeat(md5(id), %s), 'UTF8')"
        " FROM unnest(%s::text[]) id",
        thread_id,
        ns,
        max(1, size // 32),
        checkpoint_ids,
    )


async def write_on(
    pool: Pool, checkpoint_id: str, channel: str, thread_id: str = "t", *, task_id: str = ""
) -> None:
    """A task's write onto a checkpoint."""
    await execute(
        pool,
        "INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx,"
        " channel, type, blob) VALUES (%s, '', %s, %s, 0, %s, 'null', '')",
        thread_id,
        checkpoint_id,
        task_id or channel,
        channel,
    )


async def fill(pool: Pool, run_id: str, thread_id: str) -> None:
    """Something of every kind that a thread may have."""
    await checkpoint(pool, run_id, "1", thread_id)
    await write_on(pool, "1", "question", thread_id)
    await execute(pool, "INSERT INTO greenroom.run_events VALUES (%s, 1, 1, 'values', 'x')", run_id)
    await execute(pool, "SELECT greenroom.save_heads(%s, %s)", run_id, thread_id)


async def state(pool: Pool, thread_id: str = "t") -> tuple[list[str], list[str], list[str]]:
    """Checkpoints, versions of blobs and channels of writes of a thread."""
    parts = (
        "checkpoint_id FROM checkpoints",
        "version FROM checkpoint_blobs",
        "channel FROM checkpoint_writes",
    )
    found = [
        [
            row[0]
            for row in await execute(pool, f"SELECT {p} WHERE thread_id = %s ORDER BY 1", thread_id)
        ]
        for p in parts
    ]
    return found[0], found[1], found[2]


async def rows_of(pool: Pool, thread_id: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in LangGraph's tables, comparable with another thread's."""
    return {
        table: await execute(
            pool,
            f"SELECT {columns} FROM {table} WHERE thread_id = %s ORDER BY 1, 2, 3, 4",
            thread_id,
        )
        for table, columns in TABLES.items()
    }


async def left_of(pool: Pool, thread_id: str) -> dict[str, int]:
    """How many rows there are of a thread, by table; its own runs' rows of all threads."""
    tables = [*TABLES, "greenroom.runs"]
    found = {
        table: (
            await execute(pool, f"SELECT count(*) FROM {table} WHERE thread_id = %s", thread_id)
        )[0][0]
        for table in tables
    }
    for table in ("run_events", "saved_heads", "saved_writes"):
        ((found[table],),) = await execute(pool, f"SELECT count(*) FROM greenroom.{table}")
    return {table: number for table, number in found.items() if number}
