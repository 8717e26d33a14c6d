"""Fills a server's database within seconds, or minutes, with the records of years of use."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, LiteralString

from psycopg import AsyncConnection

THREADS = """
INSERT INTO greenroom.threads (thread_id, status, ever_ran, metadata, config, "values", facets,
    created_at, updated_at, state_updated_at)
SELECT ids.id::text, CASE WHEN mod(n, 50) = 0 THEN 'error' WHEN mod(n, 20) = 0 THEN 'interrupted'
        ELSE 'idle' END, true,
    jsonb_build_object('graph_id', 'trivial', 'customer', mod(n, 1000)),
    '{"configurable": {}}', json_build_object('x', n), jsonb_build_object('x', n), at, at, at
FROM generate_series(1, %(threads)s) n,
    LATERAL (SELECT gen_random_uuid() AS id, now() - n * interval '5 minutes' AS at) ids"""

RUNS = """
INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status, attempt, kwargs,
    metadata, multitask_strategy, resumable, resumes, created_at, updated_at)
SELECT gen_random_uuid(), t.thread_id, a.assistant_id, 'trivial',
    CASE WHEN n = 1 AND t.status = 'error' THEN 'error' ELSE 'success' END, 1,
    json_build_object('input', json_build_object('x', n), 'stream_mode', json_build_array('values'),
        'config', json_build_object('configurable', json_build_object('thread_id', t.thread_id))),
    jsonb_build_object('graph_id', 'trivial'), 'enqueue', mod(n, 5) = 0, mod(n, 5) = 1,
    t.created_at - n * interval '1 minute', t.created_at - n * interval '1 minute'
FROM greenroom.threads t
CROSS JOIN generate_series(1, %(each)s) n
CROSS JOIN (SELECT assistant_id FROM greenroom.assistants WHERE graph_id = 'trivial' LIMIT 1) a"""


SECONDARY = """
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index i WHERE NOT i.indisprimary
    AND i.indrelid IN ('greenroom.threads'::regclass, 'greenroom.runs'::regclass)"""


async def fill(database: Path, threads: int, runs: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Stores threads and finished runs.

    The indexes are made anew at the end, which takes a fraction of the time for millions of rows.

    Args:
        database: the directory of the server's embedded PostgreSQL.

    Returns:
        some thread ids, and some pairs of thread and run.
    """
    from greenroom.persistence.embedded import start_embedded

    embedded = await asyncio.to_thread(start_embedded, database)
    try:
        async with await AsyncConnection.connect(embedded.dsn, autocommit=True) as connection:
            await connection.execute("SET synchronous_commit = off")
            await connection.execute("SET maintenance_work_mem = '512MB'")
            indexes: list[Any] = await _rows(connection, SECONDARY)
            for name, _ in indexes:
                await connection.execute(f"DROP INDEX {name}".encode())
            await connection.execute(THREADS, {"threads": threads})
            await connection.execute(RUNS, {"each": max(1, runs // threads)})
            for _, definition in indexes:
                await connection.execute(definition.encode())
            for table in ("threads", "runs"):
                await connection.execute(f"VACUUM ANALYZE greenroom.{table}")
            await connection.execute("CHECKPOINT")
            some: list[Any] = await _rows(
                connection,
                "SELECT thread_id FROM greenroom.threads TABLESAMPLE BERNOULLI (10)"
                " ORDER BY random() LIMIT 1000",
            )
            pairs: list[Any] = await _rows(
                connection,
                "SELECT thread_id, run_id::text FROM greenroom.runs TABLESAMPLE BERNOULLI (5)"
                " ORDER BY random() LIMIT 1000",
            )
    finally:
        embedded.release()
    return [row[0] for row in some], pairs


async def _rows(connection: AsyncConnection[Any], query: LiteralString) -> list[Any]:
    cursor = await connection.execute(query)
    return await cursor.fetchall()
